import { join } from "node:path";
import { expect, test } from "vitest";
import { AdapterDecoder } from "../../../../worker/engine/decoder/adapter-decoder.ts";
import type { Decoder } from "../../../../worker/engine/decoder/decoder.ts";
import type { ExternalCacheDecoder } from "../../../../worker/engine/decoder/external-cache-decoder.ts";
import { readAdapter } from "../../../../worker/engine/model/lora-adapter.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { loadAdapters, loadViews, logitsOf, OPTIONS } from "../../../support/adapted-decoders.ts";
import {
  adapterFolder,
  GPT2_MODULES,
  LLAMA_MODULES,
  mergedFolder,
  type AdapterOptions,
} from "../../../support/adapters.ts";
import { largestDifference } from "../../../support/logits.ts";
import { VECTORS } from "../../../support/model-folder.ts";

const TOLERANCE = 1e-4;

test("DoRA gives the logits of the merged model, and leaves the bits of rows with other adapters or none", async () => {
  const lora = { modules: LLAMA_MODULES, seed: 3 };
  const { host, plain, adapted, merged } = await loadAdapters("llama", [
    { modules: LLAMA_MODULES, seed: 2, dora: true },
    lora,
  ]);
  const [dora, other] = [await logitsOf(adapted[0]!), await logitsOf(adapted[1]!)];
  expect(largestDifference(dora, await logitsOf(merged[0]!))).toBeLessThan(TOLERANCE);
  expect(await logitsOf(host)).toEqual(await logitsOf(plain));
  const [alone] = await loadViews([lora]);
  expect(await logitsOf(alone!)).toEqual(other);
  expect(largestDifference(dora, await logitsOf(plain))).toBeGreaterThan(0.1);
});

test("in fp16 too, another adapter has the same bits beside DoRA", async () => {
  const modules = { "model.layers.0.mlp.down_proj": [64, 32] } as const;
  const [lora, dora] = [
    { modules, seed: 3 },
    { modules, seed: 2, dora: true },
  ].map((options) => readAdapter(adapterFolder(options)).modules);
  const logitsBeside = async (adapters: NonNullable<typeof lora>[]) => {
    const options = { ...OPTIONS, dtype: "fp16", adapters } as const;
    const host = await loadDecoder(join(VECTORS, "llama/base"), options);
    return logitsOf(new AdapterDecoder(host as ExternalCacheDecoder, 0) as Decoder);
  };
  expect(await logitsBeside([lora!, dora!])).toEqual(await logitsBeside([lora!]));
});

test.each(["int8", "fp16"] as const)("DoRA takes the norm of the weights of %s", async (dtype) => {
  const source = join(VECTORS, "llama/base");
  const modules = { "model.layers.0.mlp.down_proj": [64, 32] } as const;
  const folder = adapterFolder({ modules, dora: true });
  const adapters = [readAdapter(folder).modules];
  const host = await loadDecoder(source, { ...OPTIONS, dtype, adapters });
  const adapted = new AdapterDecoder(host as ExternalCacheDecoder, 0) as Decoder;
  const plain = await logitsOf(await loadDecoder(source, { ...OPTIONS, dtype }));
  expect(await logitsOf(host)).toEqual(plain);
  const rounding = largestDifference(plain, await logitsOf(await loadDecoder(source, OPTIONS)));
  const expert = await logitsOf(adapted);
  const merged = await logitsOf(await loadDecoder(mergedFolder(source, folder), OPTIONS));
  expect(largestDifference(expert, merged)).toBeLessThan(3 * rounding);
  expect(largestDifference(expert, plain)).toBeGreaterThan(3 * rounding);
});

test.each<[string, string, AdapterOptions, "q8" | "fp32"]>([
  [
    "weights in blocks",
    "llama/base",
    { modules: { "model.layers.0.mlp.down_proj": [64, 32] } },
    "q8",
  ],
  ["a bias in the product", "gpt2/antiexpert", { modules: GPT2_MODULES }, "fp32"],
])("DoRA is refused with %s", async (problem, name, options, dtype) => {
  const adapters = [readAdapter(adapterFolder({ ...options, dora: true })).modules];
  const load = loadDecoder(join(VECTORS, name), { ...OPTIONS, dtype, adapters });
  await expect(load).rejects.toThrow(`use_dora is not supported with ${problem}`);
});
