/** The prefix cache in the decode loop: conversations, shared prompts, real models, several tenants. */
import { expect, test } from "vitest";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import { generate } from "../../../../worker/engine/loop/generate.ts";
import { PrefixCache } from "../../../../worker/engine/decoder/prefix-cache.ts";
import type { Prompts } from "../../../../worker/engine/model/ensemble-tokenizers.ts";
import { fakeModels, type FakeDecoder } from "../../../support/fake-decoder.ts";
import { largestDifference } from "../../../support/logits.ts";
import {
  NO_EOS,
  generateRequest,
  vectorModels,
  type RequestOptions,
} from "../../../support/decode-loop.ts";

const ids = (count: number, salt = 0) =>
  Array.from({ length: count }, (_, i) => 1 + ((salt + i * i) % 100));
const promptsOf = (...parts: number[][]): Prompts => ({
  base: parts.flat(),
  expert: [7, ...parts.flat()],
  antiexpert: parts.flat().slice(1),
});
const endless = (options: RequestOptions) =>
  generateRequest({ ...options, sampling: { ...options.sampling, logitBias: [NO_EOS] } });

async function run(batch: Batch, options: RequestOptions, tenant: string) {
  const sequence = batch.add({ ...endless(options), tenant })!;
  const logits: Float32Array[] = [];
  while (batch.size > 0) {
    for (const step of await batch.step()) {
      if ("error" in step) throw step.error;
      logits.push(step.sequence.logits.slice());
    }
  }
  return { sequence, logits };
}

async function alone(options: RequestOptions) {
  const logits: Float32Array[] = [];
  const tokens: number[] = [];
  for await (const { sequence, token } of generate(endless(options), { speculate: false })) {
    logits.push(sequence.logits.slice());
    tokens.push(token);
  }
  return { logits, tokens };
}

test.each([0, 1])(
  "the output after a cached prefix is the same as without a cache (temperature %d)",
  async (temperature) => {
    const models = await vectorModels("llama", 128);
    const prefixes = new PrefixCache(2 ** 24);
    const batch = new Batch({ speculate: false, prefixCache: prefixes });
    let prompts = promptsOf(ids(70));
    const cached: number[] = [];
    // A conversation, and then another one with the same system prompt.
    for (const question of [ids(9, 3), ids(20, 4), ids(150, 5), null]) {
      prompts = question ? promptsOf(prompts.base.slice(), question) : promptsOf(ids(70), ids(30));
      const options = { models, prompts, maxTokens: 20, sampling: { temperature, seed: 3 } };
      const { sequence, logits } = await run(batch, options, "acme");
      const expected = await alone(options);
      expect(sequence.tokens).toEqual(expected.tokens);
      expect(largestDifference(logits, expected.logits)).toBeLessThan(1e-3);
      cached.push(sequence.cachedTokens);
      prompts = promptsOf(prompts.base.slice(), sequence.tokens);
    }
    // Whole blocks of 16 tokens; earlier outputs count too, except for their last token.
    expect(cached).toEqual([0, 96, 128, 64]);
  },
);

test("sequences of one tenant that share a system prompt prefill it once; another tenant prefills it again", async () => {
  const models = fakeModels(20);
  const batch = new Batch({ speculate: false, prefixCache: new PrefixCache(1e6) });
  const sequences = ["acme", "acme", "other", undefined].map((tenant, i) => {
    const options = {
      models,
      prompts: promptsOf(
        ids(64).map((id) => id % 20),
        [i + 1, 1],
      ),
    };
    return batch.add({ ...endless(options), ...(tenant && { tenant }) })!;
  });
  while (batch.size > 0) await batch.step();
  expect(sequences.map(({ cachedTokens }) => cachedTokens)).toEqual([0, 64, 0, 0]);
  // The second one prefills the tokens behind the cached blocks.
  expect(models.base.prefilledTokens.flat()).toHaveLength(3 * 66 + 2);
});

test("resumed tokens are restored from the cache, but are not counted as cached prompt tokens", async () => {
  const models = fakeModels(20);
  const batch = new Batch({ speculate: false, prefixCache: new PrefixCache(1e6) });
  const options = { models, prompts: promptsOf(ids(20).map((id) => id % 20)), maxTokens: 40 };
  const { sequence } = await run(batch, options, "acme");
  const again = await run(batch, { ...options, resume: sequence.tokens.slice(0, 30) }, "acme");
  expect(again.sequence.tokens).toEqual(sequence.tokens);
  expect(again.sequence.cachedTokens).toBe(20);
  expect(models.base.prefilledTokens.slice(1).flat()).toHaveLength(2);
});

test("a sequence that fails stores nothing", async () => {
  const models = fakeModels(20);
  const prefixes = new PrefixCache(1e6);
  const batch = new Batch({ speculate: false, prefixCache: prefixes });
  const broken: FakeDecoder = Object.assign(fakeModels(20).base, {
    prefillAll: () => Promise.reject(new Error("the device is gone")),
  });
  const sequence = batch.add({
    ...endless({ models: { ...models, base: broken }, prompts: promptsOf(ids(40)) }),
    tenant: "acme",
  })!;
  expect(await batch.step()).toEqual([{ sequence, error: new Error("the device is gone") }]);
  batch.remove(sequence);
  expect(prefixes.bytes).toBe(0);
});
