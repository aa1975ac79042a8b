/** LoRA adapters with random weights, written as `peft` writes them, and models into which they are merged. */
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { LoraModule, LoraModules } from "../../worker/engine/graph/adapter-targets.ts";
import { productsOf } from "../../worker/engine/graph/adapter-modules.ts";
import { producersByValue } from "../../worker/engine/graph/nodes.ts";
import { GRAPH_PROTO, MODEL_PROTO, TENSOR_PROTO } from "../../worker/engine/graph/onnx-proto.ts";
import {
  messageField,
  rawFields,
  readFields,
  readNode,
} from "../../worker/engine/graph/onnx-wire.ts";
import { readWeightInfo } from "../../worker/engine/graph/weights.ts";
import { readAdapter } from "../../worker/engine/model/lora-adapter.ts";
import { folderOf } from "./tokenizers.ts";

/** Module -> its sizes [inputs, outputs]. */
export type ModuleSizes = Readonly<Record<string, readonly [number, number]>>;

/** The modules of attention and MLP in the graphs of test/vectors. */
export const LLAMA_MODULES = layers("model.layers", {
  "self_attn.q_proj": [16, 16],
  "self_attn.k_proj": [16, 8],
  "self_attn.v_proj": [16, 8],
  "self_attn.o_proj": [16, 16],
  "mlp.gate_proj": [16, 32],
  "mlp.up_proj": [16, 32],
  "mlp.down_proj": [32, 16],
});
export const GPT2_MODULES = layers("transformer.h", {
  "attn.c_attn": [16, 48],
  "attn.c_proj": [16, 16],
  "mlp.c_fc": [16, 64],
  "mlp.c_proj": [64, 16],
});

function layers(prefix: string, sizes: ModuleSizes): ModuleSizes {
  return Object.fromEntries(
    [0, 1].flatMap((layer) =>
      Object.entries(sizes).map(([name, size]) => [`${prefix}.${layer}.${name}`, size] as const),
    ),
  );
}

export interface AdapterOptions {
  readonly modules: ModuleSizes;
  readonly seed?: number;
  /** Members of adapter_config.json. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** Ranks of modules that are not `r`. */
  readonly ranks?: Readonly<Record<string, number>>;
  /** Whether each module has magnitudes. */
  readonly dora?: boolean;
  /** Further tensors, one number each. */
  readonly tensors?: Readonly<Record<string, number>>;
}

/** A folder with an adapter whose weights are random, and large enough to change tokens. */
export function adapterFolder(options: AdapterOptions): string {
  const { modules, seed = 1, config = {}, ranks = {}, tensors = {}, dora = false } = options;
  const r = typeof config["r"] === "number" ? config["r"] : 4;
  let state = seed;
  const random = () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 31 - 1;
  };
  const entries = Object.entries(modules).flatMap(([path, [inputs, outputs]]) => {
    const rank = ranks[path] ?? r;
    const name = (side: string) => `base_model.model.${path}.lora_${side}.weight`;
    return [
      { name: name("A"), shape: [rank, inputs] },
      { name: name("B"), shape: [outputs, rank] },
    ];
  });
  const magnitudes = (dora ? Object.entries(modules) : []).map(([path, [, outputs]]) => ({
    name: `base_model.model.${path}.lora_magnitude_vector.weight`,
    shape: [outputs],
    data: Float32Array.from({ length: outputs }, () => 1 + 0.5 * random()),
  }));
  const folder = folderOf({
    "adapter_config.json": {
      peft_type: "LORA",
      r,
      lora_alpha: 8,
      target_modules: [...new Set(Object.keys(modules).map((path) => path.split(".").at(-1)!))],
      bias: "none",
      use_dora: dora,
      use_rslora: false,
      modules_to_save: null,
      rank_pattern: {},
      alpha_pattern: {},
      init_lora_weights: true,
      ...config,
    },
  });
  const values = [
    ...entries.map(({ name, shape }) => ({
      name,
      shape,
      data: Float32Array.from({ length: shape[0]! * shape[1]! }, () => 0.25 * random()),
    })),
    ...magnitudes,
    ...Object.entries(tensors).map(([name, value]) => ({
      name,
      shape: [1, 1],
      data: Float32Array.of(value),
    })),
  ];
  writeFileSync(join(folder, "adapter_model.safetensors"), safetensors(values));
  return folder;
}

function safetensors(
  tensors: readonly { name: string; shape: readonly number[]; data: Float32Array }[],
): Uint8Array {
  let end = 0;
  const header = tensors.map(({ name, shape, data }) => {
    const start = end;
    end += data.byteLength;
    return [name, { dtype: "F32", shape, data_offsets: [start, end] }] as const;
  });
  const text = Buffer.from(
    JSON.stringify({ __metadata__: { format: "pt" }, ...Object.fromEntries(header) }),
  );
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...tensors.map(({ data }) => Buffer.from(data.buffer))]);
}

/** A copy of a model folder whose float32 weights have an adapter merged into them. */
export function mergedFolder(source: string, adapter: string): string {
  const folder = folderOf({ "onnx/.keep": "" });
  for (const { name } of readdirSync(source, { withFileTypes: true }).filter((e) => e.isFile())) {
    copyFileSync(join(source, name), join(folder, name));
  }
  const model = readFileSync(join(source, "onnx/model.onnx"));
  const merged = merge(model, readAdapter(adapter).modules);
  writeFileSync(join(folder, "onnx/model.onnx"), merged);
  return folder;
}

function merge(model: Uint8Array, modules: LoraModules): Uint8Array {
  const graphParts = Array.from(readFields(model, [MODEL_PROTO.graph])).flatMap(([, graph]) => [
    ...rawFields(graph),
  ]);
  const nodes = graphParts
    .filter(({ field }) => field === GRAPH_PROTO.node)
    .map(({ content }) => readNode(content));
  const products = productsOf(modules.keys(), nodes, producersByValue(nodes));
  const byWeight = new Map(
    Array.from(modules, ([path, module]) => [products.get(path)!.inputs[1]!, module] as const),
  );
  const parts = graphParts.map(({ field, raw, content }) => {
    const module =
      field === GRAPH_PROTO.initializer ? byWeight.get(readWeightInfo(content).name) : undefined;
    return module ? messageField(field, addTo(content, module)) : raw;
  });
  return Buffer.concat(
    Array.from(rawFields(model), ({ field, raw }) =>
      field === MODEL_PROTO.graph ? messageField(field, parts) : raw,
    ),
  );
}

/** The fields of a weight [inputs, outputs] with `scale * (B A)^T` added, and its columns scaled to the magnitudes. */
function addTo(weight: Uint8Array, module: LoraModule) {
  const { rank, inputs, outputs, scale, a, b, magnitude } = module;
  return Array.from(rawFields(weight), ({ field, raw, content }) => {
    if (field !== TENSOR_PROTO.rawData) return raw;
    const values = new Float32Array(Uint8Array.from(content).buffer);
    for (let i = 0; i < inputs; i++) {
      for (let o = 0; o < outputs; o++) {
        let sum = 0;
        for (let r = 0; r < rank; r++) sum += b[o * rank + r]! * a[r * inputs + i]!;
        values[i * outputs + o]! += scale * sum;
      }
    }
    for (const [o, norm] of (magnitude ?? []).entries()) {
      let squares = 0;
      for (let i = 0; i < inputs; i++) squares += values[i * outputs + o]! ** 2;
      const gain = norm / Math.sqrt(squares);
      for (let i = 0; i < inputs; i++) values[i * outputs + o]! *= gain;
    }
    return messageField(TENSOR_PROTO.rawData, [new Uint8Array(values.buffer)]);
  });
}
