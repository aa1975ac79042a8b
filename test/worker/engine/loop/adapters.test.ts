/** Pairs whose expert is an adapter of the antiexpert: two rows of one run. */
import { join } from "node:path";
import { expect, test, vi } from "vitest";
import { AdapterDecoder } from "../../../../worker/engine/decoder/adapter-decoder.ts";
import type { Decoder } from "../../../../worker/engine/decoder/decoder.ts";
import type { ExternalCacheDecoder } from "../../../../worker/engine/decoder/external-cache-decoder.ts";
import { PrefixCache } from "../../../../worker/engine/decoder/prefix-cache.ts";
import { cacheBytesNeeded } from "../../../../worker/engine/cache-budget.ts";
import { Batch } from "../../../../worker/engine/loop/batch.ts";
import type { Sequence } from "../../../../worker/engine/loop/sequence.ts";
import { readAdapter } from "../../../../worker/engine/model/lora-adapter.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { adapterFolder, LLAMA_MODULES, mergedFolder } from "../../../support/adapters.ts";
import {
  generateRequest,
  NO_EOS,
  runTokens,
  type RequestOptions,
} from "../../../support/decode-loop.ts";
import { VECTORS } from "../../../support/model-folder.ts";

const OPTIONS = { dtype: "fp32", intraOpThreads: 1 } as const;
const PLAIN = { speculate: false } as const;
const source = join(VECTORS, "llama/antiexpert");
const folders = [1, 2].map((seed) => adapterFolder({ modules: LLAMA_MODULES, seed }));
const base = await loadDecoder(join(VECTORS, "llama/base"), OPTIONS);
const antiexpert = await loadDecoder(source, {
  ...OPTIONS,
  adapters: folders.map((folder) => readAdapter(folder).modules),
});
const adapted = folders.map((_, i) => ({
  base,
  expert: new AdapterDecoder(antiexpert as ExternalCacheDecoder, i) as Decoder,
  antiexpert,
  vocabSize: 128,
}));
const twoModels = {
  base,
  expert: await loadDecoder(mergedFolder(source, folders[0]!), OPTIONS),
  antiexpert: await loadDecoder(source, OPTIONS),
  vocabSize: 128,
};
const sampling = { logitBias: [NO_EOS] };

test("the tokens are those of two models: drafted or not, gated, with any prompts", async () => {
  const prompt = [1, 2, 3];
  const changes: Partial<RequestOptions>[] = [
    {},
    { prompts: { base: prompt, expert: prompt, antiexpert: prompt } },
    { sampling: { ...sampling, temperature: 1, seed: 7 } },
    { gate: { maxMargin: 0.5 } },
  ];
  for (const change of changes) {
    const expected = await runTokens({ models: twoModels, sampling, ...change }, PLAIN);
    const tokens = { models: adapted[0]!, sampling, ...change };
    expect(await runTokens(tokens, PLAIN)).toEqual(expected);
    expect(await runTokens(tokens)).toEqual(expected);
  }
});

test("a step runs expert and antiexpert of all sequences together, and tokens do not depend on the others", async () => {
  const plans = [adapted[0]!, adapted[1]!, adapted[0]!].map((models, i) => ({
    models,
    sampling,
    prompts: { base: [i + 1], expert: [i + 2, 9], antiexpert: [i + 3, 7, 5] },
  }));
  const alone: number[][] = [];
  for (const plan of plans) alone.push(await runTokens(plan, PLAIN));
  const batch = new Batch(PLAIN);
  const tokens = new Map<Sequence, number[]>(
    plans.map((plan) => [batch.add(generateRequest(plan))!, []]),
  );
  const runs = vi.spyOn(antiexpert, "decode");
  while (batch.size > 0) {
    for (const step of await batch.step()) {
      if ("error" in step) throw step.error;
      tokens.get(step.sequence)!.push(step.token);
    }
  }
  expect([...tokens.values()]).toEqual(alone);
  expect(alone[0]).not.toEqual(alone[1]);
  expect(Math.max(...runs.mock.calls.map(([inputs]) => inputs.length))).toBe(6);
  // The first token comes with the prompt.
  expect(runs).toHaveBeenCalledTimes(alone[0]!.length - 1);
});

test("the caches of both are one, and cached prefixes are not shared between an adapter and its antiexpert", async () => {
  const [expert] = adapted.map((models) => models.expert);
  const caches = [expert!, antiexpert].map((decoder) => ({ decoder, tokens: 100 }));
  expect(cacheBytesNeeded(caches)).toBe(antiexpert.cacheBytesFor([100, 100]));
  const prefixes = new PrefixCache(2 ** 20);
  const ids = Array.from({ length: 40 }, (_, i) => i + 1);
  const sequence = expert!.open();
  await expert!.prefill(sequence, ids);
  prefixes.store("tenant", expert!, sequence, ids);
  const [own, other] = [expert!.open(), antiexpert.open()];
  expect(prefixes.restore("tenant", expert!, own, ids)).toBe(32);
  expect(prefixes.restore("tenant", antiexpert, other, ids)).toBe(0);
  for (const open of [sequence, own, other]) antiexpert.close(open);
});
