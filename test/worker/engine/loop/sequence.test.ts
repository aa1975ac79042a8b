/** How a sequence chooses its next token from logits. */
import { expect, test } from "vitest";
import { Sequence } from "../../../../worker/engine/loop/sequence.ts";
import { fakeModels } from "../../../support/fake-decoder.ts";
import { EOS, NO_EOS, PROMPTS, generateRequest } from "../../../support/decode-loop.ts";

const VOCAB = 6;
const logits = (...values: number[]) => Float32Array.of(...values);
const ZERO = logits(0, 0, 0, 0, 0, 0);
const greedy = { temperature: 0 };

const sequenceOf = (changes: Partial<Parameters<typeof generateRequest>[0]> = {}) =>
  new Sequence(generateRequest({ models: fakeModels(VOCAB), sampling: greedy, ...changes }));

test("the token is the one with the largest base + alpha * (expert - antiexpert)", () => {
  const sequence = sequenceOf({ alpha: 2 });
  const step = sequence.chooseToken([logits(0, 3, 0, 0, 0, 0), logits(0, 0, 2, 0, 0, 0), ZERO]);
  expect(step).toMatchObject({ token: 2, text: "c", finish: null });
  expect([...sequence.logits]).toEqual([0, 3, 4, 0, 0, 0]);
});

test("the chosen token is the next input of every model", () => {
  const sequence = sequenceOf({ resume: [3] });
  expect(sequence.modelStates.map(({ pendingTokens }) => pendingTokens)).toEqual([
    [...PROMPTS.base, 3],
    [...PROMPTS.expert, 3],
    [...PROMPTS.antiexpert, 3],
  ]);
  sequence.chooseToken([logits(0, 0, 0, 0, 1, 0), ZERO, ZERO]);
  expect(sequence.modelStates.map(({ pendingTokens }) => pendingTokens)).toEqual([[4], [4], [4]]);
  expect(sequence.tokens).toEqual([3, 4]);
});

test("an end token finishes the sequence", () => {
  const step = sequenceOf().chooseToken([logits(1, 0, 0, 0, 0, 0), ZERO, ZERO]);
  expect(step).toMatchObject({ token: EOS, finish: "stop" });
});

test.each([
  ["of the base", () => sequenceOf().chooseToken([logits(1, 2), ZERO, ZERO])],
  ["of the expert", () => sequenceOf().chooseToken([ZERO, logits(1), ZERO])],
  ["of the antiexpert", () => sequenceOf().chooseToken([ZERO, ZERO, logits(1)])],
  ["of the base at alpha 0", () => sequenceOf({ alpha: 0 }).chooseToken([logits(1, 2)])],
])("too few logits %s fail the sequence", (_, choose) => {
  const step = choose();
  expect("error" in step && step.error.message).toMatch(
    /^A model returned .* logits; the vocabulary has 6 tokens$/,
  );
});

test("logits without a finite value fail the sequence, and give no token", () => {
  const sequence = sequenceOf();
  const step = sequence.chooseToken([new Float32Array(VOCAB).fill(Number.NaN), ZERO, ZERO]);
  expect(step).toMatchObject({ sequence, error: expect.any(Error) as Error });
  expect(sequence.tokens).toEqual([]);
});

test("sample() changes neither the logits nor the sequence", () => {
  const sequence = sequenceOf({
    sampling: { ...greedy, logitBias: [NO_EOS], repetitionPenalty: 2 },
  });
  const some = logits(9, 0, 1, 0, 8, 0, 99);
  expect(sequence.sample(some)).toBe(4);
  expect([...some]).toEqual([9, 0, 1, 0, 8, 0, 99]);
  expect(sequence.sample(some)).toBe(4);
  expect(sequence.tokens).toEqual([]);
});

test("closing a sequence frees its KV caches", () => {
  const models = fakeModels(VOCAB);
  const sequence = sequenceOf({ models });
  expect([models.base, models.expert, models.antiexpert].map((m) => m.openCount)).toEqual([
    1, 1, 1,
  ]);
  sequence.close();
  expect([models.base, models.expert, models.antiexpert].map((m) => m.openCount)).toEqual([
    0, 0, 0,
  ]);
});
