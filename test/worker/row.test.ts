import { expect, test } from "vitest";
import { Row } from "../../worker/row.ts";
import { fakeModels } from "../support/fake-decoder.ts";
import { EOS, NO_EOS, PROMPTS, request } from "../support/rows.ts";

const VOCAB = 6;
const logits = (...values: number[]) => Float32Array.of(...values);
const ZERO = logits(0, 0, 0, 0, 0, 0);
const greedy = { temperature: 0 };

const rowOf = (changes: Partial<Parameters<typeof request>[0]> = {}) =>
  new Row(request({ models: fakeModels(VOCAB), sampling: greedy, ...changes }));

test("the token is the one that base + alpha * (expert - antiexpert) has as its largest", () => {
  const row = rowOf({ alpha: 2 });
  const step = row.choose([logits(0, 3, 0, 0, 0, 0), logits(0, 0, 2, 0, 0, 0), ZERO]);
  expect(step).toMatchObject({ token: 2, text: "c", finish: null });
  expect([...row.logits]).toEqual([0, 3, 4, 0, 0, 0]);
});

test("what is chosen is what every model sees next", () => {
  const row = rowOf({ resume: [3] });
  expect(row.voices.map(({ unseen }) => unseen)).toEqual([
    [...PROMPTS.base, 3],
    [...PROMPTS.expert, 3],
    [...PROMPTS.antiexpert, 3],
  ]);
  row.choose([logits(0, 0, 0, 0, 1, 0), ZERO, ZERO]);
  expect(row.voices.map(({ unseen }) => unseen)).toEqual([[4], [4], [4]]);
  expect(row.tokens).toEqual([3, 4]);
});

test("the token that ends the text ends the step", () => {
  const step = rowOf().choose([logits(1, 0, 0, 0, 0, 0), ZERO, ZERO]);
  expect(step).toMatchObject({ token: EOS, finish: "stop" });
});

test.each([
  ["of the base", () => rowOf().choose([logits(1, 2), ZERO, ZERO])],
  ["of the expert", () => rowOf().choose([ZERO, logits(1), ZERO])],
  ["of the antiexpert", () => rowOf().choose([ZERO, ZERO, logits(1)])],
  ["of the base at alpha 0", () => rowOf({ alpha: 0 }).choose([logits(1, 2)])],
])("logits %s that are too narrow fail the row, and are never filled up", (_, choose) => {
  const step = choose();
  expect("error" in step && step.error.message).toMatch(/^logits of .* for a vocabulary of 6$/);
});

test("no finite logit fails the row, and takes no token", () => {
  const row = rowOf();
  const step = row.choose([new Float32Array(VOCAB).fill(Number.NaN), ZERO, ZERO]);
  expect(step).toMatchObject({ row, error: expect.any(Error) as Error });
  expect(row.tokens).toEqual([]);
});

test("a draw tries, and changes nothing", () => {
  const row = rowOf({ sampling: { ...greedy, logitBias: [NO_EOS], repetitionPenalty: 2 } });
  const some = logits(9, 0, 1, 0, 8, 0, 99);
  expect(row.draw(some)).toBe(4);
  expect([...some]).toEqual([9, 0, 1, 0, 8, 0, 99]);
  expect(row.draw(some)).toBe(4);
  expect(row.tokens).toEqual([]);
});

test("closing a row closes its sequences", () => {
  const models = fakeModels(VOCAB);
  const row = rowOf({ models });
  expect([models.base, models.expert, models.antiexpert].map((m) => m.running)).toEqual([1, 1, 1]);
  row.close();
  expect([models.base, models.expert, models.antiexpert].map((m) => m.running)).toEqual([0, 0, 0]);
});
