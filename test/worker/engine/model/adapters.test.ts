import { readFileSync, renameSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Decoder } from "../../../../worker/engine/decoder/decoder.ts";
import { AdapterDecoder } from "../../../../worker/engine/decoder/adapter-decoder.ts";
import type { ExternalCacheDecoder } from "../../../../worker/engine/decoder/external-cache-decoder.ts";
import { hasExactRows } from "../../../../worker/engine/graph/row-probe.ts";
import { readAdapter, readAdapters } from "../../../../worker/engine/model/lora-adapter.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import {
  adapterFolder,
  GPT2_MODULES,
  LLAMA_MODULES,
  mergedFolder,
  type AdapterOptions,
} from "../../../support/adapters.ts";
import { roundedGraph } from "../../../support/bfloat16-graph.ts";
import { loadAdapters, loadViews, logitsOf, OPTIONS } from "../../../support/adapted-decoders.ts";
import { largestDifference } from "../../../support/logits.ts";
import { copyOf, passthroughCopyOf, VECTORS } from "../../../support/model-folder.ts";

const TOLERANCE = 1e-4;

describe.each([
  ["llama", LLAMA_MODULES],
  ["qwen2", LLAMA_MODULES],
  ["gpt2", GPT2_MODULES],
])("an adapter of %s", (name, modules) => {
  test("gives the logits of the model into which it is merged, and changes no other row", async () => {
    const { host, plain, adapted, merged } = await loadAdapters(name, [{ modules }]);
    const [expert, antiexpert] = [await logitsOf(adapted[0]!), await logitsOf(host)];
    expect(largestDifference(expert, await logitsOf(merged[0]!))).toBeLessThan(TOLERANCE);
    const without = await logitsOf(plain);
    expect(antiexpert).toEqual(without);
    expect(largestDifference(expert, without)).toBeGreaterThan(0.1);
  });
});

test("several adapters of different ranks, modules and scales run in one batch", async () => {
  const { host, plain, adapted, merged } = await loadAdapters("llama", [
    { modules: LLAMA_MODULES, config: { r: 8, lora_alpha: 4, use_rslora: true } },
    {
      modules: { "model.layers.0.self_attn.v_proj": [16, 8], lm_head: [16, 128] },
      seed: 2,
      ranks: { "model.layers.0.self_attn.v_proj": 3 },
      config: { rank_pattern: { "layers.0.self_attn.v_proj": 3 }, alpha_pattern: { lm_head: 20 } },
    },
  ]);
  const views = [adapted[1]!, host, adapted[0]!, adapted[1]!];
  const alone = [merged[1]!, plain, merged[0]!, merged[1]!];
  const prompts = [[1, 2, 3], [4], [5, 6], [7, 8, 9, 10]];
  const start = async (decoder: Decoder, i: number) => {
    const sequence = decoder.open();
    await decoder.prefill(sequence, prompts[i]!);
    return sequence;
  };
  const sequences: unknown[] = [];
  for (const [i, decoder] of views.entries()) sequences.push(await start(decoder, i));
  const logits = await host.decode(sequences.map((sequence) => ({ sequence, id: 11 })));
  const expected: Float32Array[] = [];
  for (const [i, decoder] of alone.entries()) {
    const sequence = await start(decoder, i);
    expected.push(...(await decoder.decode([{ sequence, id: 11 }])));
  }
  expect(largestDifference(logits, expected)).toBeLessThan(TOLERANCE);
});

test.each([12, 100, 256, 300])(
  "an adapter of rank %d has the same bits whatever others its graph holds",
  async (r) => {
    const config = (rank: number) => ({ config: { r: rank, lora_alpha: 1 } });
    const own = { modules: LLAMA_MODULES, seed: 5, ...config(r) };
    const before = { modules: LLAMA_MODULES, seed: 6, ...config(200) };
    // It has only some of the modules that are computed together.
    const after = {
      modules: { "model.layers.0.self_attn.q_proj": [16, 16] as const },
      ...config(7),
    };
    const [alone, beside] = await Promise.all([
      loadViews([own]),
      loadViews([after, before, own, before]),
    ]);
    const logits = await logitsOf(alone[0]!);
    expect(await logitsOf(beside[2]!)).toEqual(logits);
    expect(largestDifference(await logitsOf(beside[1]!), logits)).toBeGreaterThan(0.01);
  },
);

test.each(["int8", "q8", "fp16"] as const)(
  "an adapter stays in float32 on the weights of %s, and its rows are as exact as the others",
  async (dtype) => {
    const source = join(VECTORS, "llama/base");
    const folder = adapterFolder({ modules: { "model.layers.0.mlp.down_proj": [64, 32] } });
    const options = { ...OPTIONS, dtype };
    const adapters = [readAdapter(folder).modules];
    const host = await loadDecoder(source, { ...options, adapters });
    const adapted = new AdapterDecoder(host as ExternalCacheDecoder, 0) as Decoder;
    const plain = await logitsOf(await loadDecoder(source, options));
    expect(await logitsOf(host)).toEqual(plain);
    const merged = await loadDecoder(mergedFolder(source, folder), OPTIONS);
    const rounding = largestDifference(plain, await logitsOf(await loadDecoder(source, OPTIONS)));
    const [expert, reference] = [await logitsOf(adapted), await logitsOf(merged)];
    expect(largestDifference(expert, reference)).toBeLessThan(3 * rounding);
    expect(largestDifference(expert, plain)).toBeGreaterThan(2 * rounding);
    expect(await hasExactRows(adapted)).toBe(host.hasExactRows);
  },
);

describe("an adapter is refused, with file, field and reason, if", () => {
  const q = { "model.layers.0.self_attn.q_proj": [16, 16] } as const;
  test.each<[string, Partial<AdapterOptions>, string]>([
    ["it is no LoRA", { config: { peft_type: "IA3" } }, 'adapter_config.json: peft_type is "IA3"'],
    [
      "it lacks the magnitudes of DoRA",
      { config: { use_dora: true } },
      "q_proj has 0 magnitudes, but by use_dora of adapter_config.json it has 16",
    ],
    [
      "it has magnitudes without DoRA",
      { dora: true, config: { use_dora: false } },
      "q_proj has 16 magnitudes, but by use_dora of adapter_config.json it has 0",
    ],
    ["it has biases", { config: { bias: "all" } }, 'adapter_config.json: bias is "all"'],
    [
      "it replaces modules",
      { config: { modules_to_save: ["lm_head"] } },
      'adapter_config.json: modules_to_save is ["lm_head"]',
    ],
    [
      "it was made for other weights",
      { config: { init_lora_weights: "pissa_niter_16" } },
      'adapter_config.json: init_lora_weights is "pissa_niter_16"',
    ],
    [
      "it ties weights",
      { config: { ensure_weight_tying: true } },
      "adapter_config.json: ensure_weight_tying is true",
    ],
    [
      "a pattern is no regular expression",
      { config: { rank_pattern: { "(": 4 } } },
      'adapter_config.json: rank_pattern has the pattern "(", which must be a regular expression',
    ],
    [
      "its alpha is 0",
      { config: { lora_alpha: 0 } },
      "adapter_config.json: lora_alpha: must be above 0",
    ],
    [
      "its scale is too large",
      { config: { lora_alpha: 1e308 } },
      "q_proj has the scale 2.5e+307 by lora_alpha of adapter_config.json, more than 10000",
    ],
    [
      "the scale of a module is too large",
      { config: { alpha_pattern: { "q_proj|k_proj": 40_001 } } },
      "q_proj has the scale 10000.25 by alpha_pattern of adapter_config.json, more than 10000",
    ],
    ["its rank is no number", { config: { r: "8" } }, "adapter_config.json: r: "],
    [
      "it has other tensors",
      { tensors: { "base_model.model.lm_head.base_layer.weight": 1 } },
      "adapter_model.safetensors: base_model.model.lm_head.base_layer.weight [1, 1] is no matrix of LoRA",
    ],
    [
      "ranks differ from its configuration",
      { ranks: { "model.layers.0.self_attn.q_proj": 5 } },
      "model.layers.0.self_attn.q_proj has the ranks 5 and 5, but by r and rank_pattern",
    ],
    [
      "a weight is not finite",
      { config: { r: 1 }, tensors: { "base_model.model.x.lora_A.weight": Number.NaN } },
      "base_model.model.x.lora_A.weight has values that are not finite",
    ],
  ])("%s", (_, options, reason) => {
    expect(() => readAdapter(adapterFolder({ modules: q, ...options }))).toThrow(reason);
  });

  test("its weights are truncated", () => {
    const folder = adapterFolder({ modules: q });
    const file = join(folder, "adapter_model.safetensors");
    truncateSync(file, statSync(file).size - 1);
    expect(() => readAdapter(folder)).toThrow(`${file}: it is truncated`);
    truncateSync(file, 7);
    expect(() => readAdapter(folder)).toThrow("it is not a safetensors file");
  });

  test("a file is missing", () => {
    const folder = adapterFolder({ modules: q });
    const [config, weights] = ["adapter_config.json", "adapter_model.safetensors"] as const;
    renameSync(join(folder, weights), join(folder, "adapter_model.bin"));
    expect(() => readAdapter(folder)).toThrow(
      `${folder}: the adapter's folder has no ${weights}: adapter_model.bin is there, but only safetensors are read`,
    );
    rmSync(join(folder, config));
    expect(() => readAdapter(folder)).toThrow(`${folder}: the adapter's folder has no ${config}`);
    rmSync(folder, { recursive: true });
    expect(() => readAdapter(folder)).toThrow(`${folder}: there is no such folder`);
  });

  test("the header of its weights is no object", () => {
    const folder = adapterFolder({ modules: q });
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(4n);
    writeFileSync(
      join(folder, "adapter_model.safetensors"),
      Buffer.concat([length, Buffer.from("null")]),
    );
    expect(() => readAdapter(folder)).toThrow(
      "adapter_model.safetensors: it is not a safetensors file",
    );
  });

  test("it has too many values together with the others of its graph", () => {
    const [first, second] = [1, 2].map((seed) => adapterFolder({ modules: q, seed })) as [
      string,
      string,
    ];
    // Rank 4 takes 16 columns: (16 + 16) * 16 values each.
    expect(readAdapters([first, second], 1_024)).toHaveLength(2);
    expect(() => readAdapters([first, second], 1_023)).toThrow(
      `${second}/adapter_model.safetensors: with it the adapters of its graph have 1024 values, with each rank rounded up to a multiple of 16, more than 1023`,
    );
  });

  const lmHead = { lm_head: [16, 128] } as const;
  test.each<[string, AdapterOptions, string, string]>([
    [
      "the graph lacks a module",
      { modules: LLAMA_MODULES },
      "gpt2",
      "q_proj: the graph has no such module, or its exporter",
    ],
    [
      "the graph lacks a layer",
      { modules: { "model.layers.5.self_attn.q_proj": [16, 16] } },
      "llama",
      "no product has the name of the adapter's module model.layers.5.self_attn.q_proj: the graph has no layers.5",
    ],
    [
      "its sizes are others",
      { modules: { "model.layers.0.self_attn.q_proj": [8, 16] } },
      "llama",
      "q_proj has 8 inputs and 16 outputs, but the graph's has 16 and 16",
    ],
  ])("%s", async (_, options, name, reason) => {
    const [fits, own] = [adapterFolder({ modules: lmHead }), adapterFolder(options)];
    const adapters = [fits, own].map((folder) => readAdapter(folder).modules);
    const load = loadDecoder(join(VECTORS, name, "antiexpert"), { ...OPTIONS, adapters });
    await expect(load).rejects.toThrow(`model.onnx: ${own}: `);
    await expect(load).rejects.toThrow(reason);
  });

  test("its sizes are others than those of weights in bfloat16", async () => {
    const folder = copyOf("llama/antiexpert");
    const graph = join(folder, "onnx/model.onnx");
    writeFileSync(graph, roundedGraph(readFileSync(graph), "bfloat16"));
    const load = (inputs: number) => {
      const modules = { "model.layers.0.self_attn.q_proj": [inputs, 16] } as const;
      const adapters = [readAdapter(adapterFolder({ modules })).modules];
      return loadDecoder(folder, { ...OPTIONS, adapters });
    };
    await expect(load(8)).rejects.toThrow(
      "q_proj has 8 inputs and 16 outputs, but the graph's has",
    );
    expect((await load(16)).fallbackReason).toBeNull();
  });

  test("the antiexpert runs as exported", async () => {
    const adapters = [readAdapter(adapterFolder({ modules: q })).modules];
    const load = loadDecoder(passthroughCopyOf("llama/antiexpert"), { ...OPTIONS, adapters });
    await expect(load).rejects.toThrow(
      "it can have no adapters as it runs as exported (its attention stays within chunks of the context)",
    );
  });
});
