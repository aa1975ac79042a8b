/** Prompts that run together, and first tokens, in fake models whose runs are counted. */
import { expect, test } from "vitest";
import { PrefixCache } from "../../../../worker/engine/decoder/prefix-cache.ts";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { NO_EOS, generateRequest, runTokens } from "../../../support/decode-loop.ts";
import { fakeModels } from "../../../support/fake-decoder.ts";

const VOCAB = 20;
const options = { maxTokens: 6, sampling: { logitBias: [NO_EOS] } };
const ids = (count: number, salt = 0) =>
  Array.from({ length: count }, (_, i) => 1 + ((salt + i * i) % (VOCAB - 1)));
const same = (prompt: readonly number[]) => ({ base: prompt, expert: prompt, antiexpert: prompt });

/** Runs prompts to the end. @returns their sequences, and the number of tokens in each step */
async function run(prompts: readonly (readonly number[])[], tenants: readonly string[] = []) {
  const models = fakeModels(VOCAB);
  const batch = new Batch({ speculate: false, prefixCache: new PrefixCache(1e6) });
  const sequences = prompts.map((prompt, i) => {
    const request = generateRequest({ ...options, models, prompts: same(prompt) });
    const tenant = tenants[i];
    return batch.add({ ...request, ...(tenant !== undefined && { tenant }) })!;
  });
  const counts: number[] = [];
  while (batch.size > 0) counts.push((await batch.step()).length);
  for (const [i, { tokens }] of sequences.entries()) {
    const alone = { ...options, models: fakeModels(VOCAB), prompts: same(prompts[i]!) };
    expect(tokens).toEqual(await runTokens(alone, { speculate: false }));
  }
  return { models, sequences, counts };
}

test("the run with the last prompt token gives the first token", async () => {
  const { models, counts } = await run([ids(9)]);
  for (const { prefilledTokens, batchSizes } of [models.base, models.expert, models.antiexpert]) {
    expect(prefilledTokens).toEqual([ids(9)]);
    expect(batchSizes).toHaveLength(5);
  }
  expect(counts).toEqual([1, 1, 1, 1, 1, 1]);
});

test("a first token waits for no other token", async () => {
  const { counts } = await run([ids(120), ids(100)]);
  expect(counts).toEqual([1, 1, 2, 2, 2, 2, 2]);
});

test("prompts of about the same length run together", async () => {
  const { models, counts } = await run([ids(20), ids(24, 1), ids(60, 2), ids(22, 3)]);
  expect(counts[0]).toBe(3);
  for (const model of [models.base, models.expert, models.antiexpert]) {
    expect(model.prefillSizes).toEqual([3, 1]);
  }
});

test("a run has no more tokens of short prompts than a long prompt's chunk", async () => {
  const { models } = await run(Array.from({ length: 6 }, (_, i) => ids(30, i)));
  expect(models.base.prefillSizes).toEqual([4, 2]);
});

test("a prompt waits for another one whose start it can take from the prefix cache", async () => {
  const prompts = [1, 2].map((end) => [...ids(40), end]);
  const shared = await run(prompts, ["acme", "acme"]);
  expect(shared.models.base.prefillSizes).toEqual([1, 1]);
  expect(shared.sequences.map(({ cachedTokens }) => cachedTokens)).toEqual([0, 32]);
  const apart = await run(prompts, ["acme", "other"]);
  expect(apart.models.base.prefillSizes).toEqual([2]);
});
