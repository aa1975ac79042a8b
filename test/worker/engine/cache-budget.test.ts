/** The longest job that the KV cache budget holds. Fake models: a token takes one byte in each. */
import { expect, test, vi } from "vitest";
import type { PreparedGeneration } from "../../../worker/engine-client/messages.ts";
import {
  cacheBytesNeeded,
  divideBudget,
  fitToBudget,
  jobTokensMax,
} from "../../../worker/engine/cache-budget.ts";
import { PROMPTS, vectorModels } from "../../support/decode-loop.ts";
import { fakeModels } from "../../support/fake-decoder.ts";

const models = fakeModels(8);
const steered = { models, prompts: PROMPTS, alpha: 1 };
const job = (changes: Partial<PreparedGeneration> = {}) =>
  ({ maxTokens: 20, cacheTokensMax: 30, ...changes }) as PreparedGeneration;
const fit = (
  cacheBytesMax: number,
  { resumed = 0, ...changes }: Partial<PreparedGeneration> & { resumed?: number } = {},
) => fitToBudget(job(changes), steered, { cacheBytesMax, resumed });

test("the longest job shares the budget between its models, and is never longer than the context", () => {
  expect(jobTokensMax(models, 100, 60)).toEqual({ steered: 20, base: 60 });
  expect(jobTokensMax(models, 100, 62)).toEqual({ steered: 20, base: 62 });
  expect(jobTokensMax(models, 50, 1_000)).toEqual({ steered: 50, base: 50 });
  expect(jobTokensMax(models, 50, 2)).toEqual({ steered: 0, base: 2 });
});

test("real caches grow in blocks: the longest job fits, and one token more does not", async () => {
  const llama = await vectorModels("llama", 128);
  const bytes = (tokens: number) =>
    [llama.base, llama.expert, llama.antiexpert].reduce(
      (sum, decoder) => sum + decoder.cacheBytesFor([tokens]),
      0,
    );
  const found = jobTokensMax(llama, 10_000, bytes(40) + 1).steered;
  expect([found, bytes(found) <= bytes(40), bytes(found + 1) > bytes(40)]).toEqual([
    64,
    true,
    true,
  ]);
});

test("a short job beside a long one needs no more than alone, and models get the budget by their needs", async () => {
  const { base, expert } = await vectorModels("llama", 128);
  const caches = [
    { decoder: base, tokens: 1_000 },
    { decoder: base, tokens: 10 },
    { decoder: expert, tokens: 10 },
  ];
  const alone = caches.map((cache) => cacheBytesNeeded([cache]));
  const [long, short, other] = alone as [number, number, number];
  const needed = long + short + other;
  expect(cacheBytesNeeded(caches)).toBe(needed);
  const limits = new Map<unknown, number>();
  for (const decoder of [base, expert]) {
    decoder.limitCache = (bytesMax) => void limits.set(decoder, bytesMax);
  }
  const counted = [base, expert].map((decoder) => vi.spyOn(decoder, "cacheBytesFor"));
  for (const times of [1, 3]) {
    for (const calls of counted) calls.mockClear();
    divideBudget(caches, times * needed);
    expect(counted.map(({ mock }) => mock.calls.length)).toEqual([1, 1]);
    expect([limits.get(base), limits.get(expert)]).toEqual([times * (long + short), times * other]);
  }
});

test("an output ends where the budget does; what fits is not changed", () => {
  expect(fit(90)).toEqual({ maxTokens: 20, cacheTokensMax: 30 });
  expect(fit(75)).toEqual({ maxTokens: 15, cacheTokensMax: 25 });
  expect(fit(33)).toEqual({ maxTokens: 1, cacheTokensMax: 11 });
});

test("a prompt, and a completion to score, must fit as a whole", () => {
  expect(() => fit(32)).toThrow(/length is 10 tokens. However, your messages resulted in 10 /);
  expect(fit(30, { maxTokens: 0, cacheTokensMax: 10 }).maxTokens).toBe(0);
  expect(() => fit(75, { forcedTokens: new Int32Array(20) })).toThrow(
    /length is 25 tokens. However, your completion has 20 tokens and the prompt 10/,
  );
});

test("a job that another worker has continued beyond the budget keeps its bounds", () => {
  expect(fit(75, { resumed: 15 }).maxTokens).toBe(15);
  expect(fit(75, { resumed: 16 }).maxTokens).toBe(20);
});
