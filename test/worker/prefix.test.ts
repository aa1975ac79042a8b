/** The prefix cache in the loop: conversations and shared prompts, real models, several tenants. */
import { expect, test } from "vitest";
import { Batch, generate } from "../../worker/generate.ts";
import { PrefixCache } from "../../worker/model/prefix-cache.ts";
import type { Prompts } from "../../worker/parts.ts";
import { fakeModels, type FakeDecoder } from "../support/fake-decoder.ts";
import { largestDifference } from "../support/logits.ts";
import { NO_EOS, request, vectorModels, type RowOptions } from "../support/rows.ts";

const ids = (count: number, salt = 0) =>
  Array.from({ length: count }, (_, i) => 1 + ((salt + i * i) % 100));
const promptsOf = (...parts: number[][]): Prompts => ({
  base: parts.flat(),
  expert: [7, ...parts.flat()],
  antiexpert: parts.flat().slice(1),
});
const endless = (options: RowOptions) =>
  request({ ...options, sampling: { ...options.sampling, logitBias: [NO_EOS] } });

async function play(batch: Batch, options: RowOptions, tenant: string) {
  const row = batch.add({ ...endless(options), tenant })!;
  const logits: Float32Array[] = [];
  while (batch.size > 0) {
    for (const step of await batch.step()) {
      if ("error" in step) throw step.error;
      logits.push(step.row.logits.slice());
    }
  }
  return { row, logits };
}

async function alone(options: RowOptions) {
  const logits: Float32Array[] = [];
  const tokens: number[] = [];
  for await (const { row, token } of generate(endless(options), { speculate: false })) {
    logits.push(row.logits.slice());
    tokens.push(token);
  }
  return { logits, tokens };
}

test.each([0, 1])(
  "what follows a kept prefix is what follows it without (temperature %d)",
  async (temperature) => {
    const models = await vectorModels("llama", 128);
    const prefixes = new PrefixCache(2 ** 24);
    const batch = new Batch({ speculate: false, prefixes });
    let prompts = promptsOf(ids(70));
    const cached: number[] = [];
    // A conversation, and then another under the same system prompt.
    for (const question of [ids(9, 3), ids(20, 4), ids(150, 5), null]) {
      prompts = question ? promptsOf(prompts.base.slice(), question) : promptsOf(ids(70), ids(30));
      const options = { models, prompts, maxTokens: 20, sampling: { temperature, seed: 3 } };
      const { row, logits } = await play(batch, options, "acme");
      const expected = await alone(options);
      expect(row.tokens).toEqual(expected.tokens);
      expect(largestDifference(logits, expected.logits)).toBeLessThan(1e-3);
      cached.push(row.cachedTokens);
      prompts = promptsOf(prompts.base.slice(), row.tokens);
    }
    // Down to whole blocks of 16; the answer before counts, but for its last token.
    expect(cached).toEqual([0, 96, 128, 64]);
  },
);

test("rows that come together under one system prompt prefill it once; another tenant's does so again", async () => {
  const models = fakeModels(20);
  const batch = new Batch({ speculate: false, prefixes: new PrefixCache(1e6) });
  const rows = ["acme", "acme", "other", undefined].map((tenant, i) => {
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
  expect(rows.map(({ cachedTokens }) => cachedTokens)).toEqual([0, 64, 0, 0]);
  const prefilled = models.base.asked.filter(({ length }) => length > 1).flat();
  expect(prefilled).toHaveLength(3 * 65);
});

test("a replayed answer counts as work saved, not as prompt", async () => {
  const models = fakeModels(20);
  const batch = new Batch({ speculate: false, prefixes: new PrefixCache(1e6) });
  const options = { models, prompts: promptsOf(ids(20).map((id) => id % 20)), maxTokens: 40 };
  const { row } = await play(batch, options, "acme");
  const again = await play(batch, { ...options, resume: row.tokens.slice(0, 30) }, "acme");
  expect(again.row.tokens).toEqual(row.tokens);
  expect(again.row.cachedTokens).toBe(20);
  const [whole] = models.base.asked.filter(({ length }) => length > 1).slice(1);
  expect(whole).toBeUndefined();
});

test("a row that fails leaves nothing", async () => {
  const models = fakeModels(20);
  const prefixes = new PrefixCache(1e6);
  const batch = new Batch({ speculate: false, prefixes });
  const broken: FakeDecoder = Object.assign(fakeModels(20).base, {
    prefill: () => Promise.reject(new Error("the device is gone")),
  });
  const row = batch.add({
    ...endless({ models: { ...models, base: broken }, prompts: promptsOf(ids(40)) }),
    tenant: "acme",
  })!;
  await expect(batch.step()).rejects.toThrow("the device is gone");
  batch.remove(row);
  expect(prefixes.bytes).toBe(0);
});
