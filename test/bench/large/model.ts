/**
 * Models of about a billion parameters in int8 with random weights, for what size alone costs. Their nodes are those of the demo base,
 * exported and quantized as the inflated family (../models); the embeddings are float32, as quantize_dynamic leaves them, and the
 * output matrix is int8. Weights are in a file of their own, because a protobuf message has at most 2 GiB.
 */
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  renameSync,
  rmSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { CACHE, graphIo, modelShape, readConfig, SOURCES } from "../models/family.ts";
import { inflate, type ModelShape } from "../models/inflate.ts";
import { readGraph, writeExternalModel, type ExternalTensor } from "../models/onnx.ts";
import { quantize } from "../models/quantize.ts";

interface LargeShape extends ModelShape {
  readonly vocabSize: number;
}

/** With the widths, layers and vocabularies of Llama 3.2 1B (12 of its layers, because here all heads have own keys) and Gemma 3 1B. */
export const LARGE_SHAPES = {
  "llama-128k": {
    layers: 12,
    width: 2048,
    heads: 32,
    headSize: 64,
    mlpWidth: 8192,
    vocabSize: 128_256,
  },
  "gemma-256k": {
    layers: 26,
    width: 1152,
    heads: 18,
    headSize: 64,
    mlpWidth: 6912,
    vocabSize: 262_144,
  },
} as const satisfies Readonly<Record<string, LargeShape>>;
export type LargeName = keyof typeof LARGE_SHAPES;

const CONTEXT_TOKENS = 8_192;
const WEIGHTS_FILE = "model_quantized.onnx_data";

/** The folder of a model, which is built first: 2 to 3 GB. */
export function largeModel(name: LargeName): string {
  const folder = join(CACHE, `large-${name}`);
  if (existsSync(folder)) return folder;
  const shape = LARGE_SHAPES[name];
  const config = readConfig("base");
  const from = modelShape(config);
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(join(unfinished, "onnx"), { recursive: true });
  // The nodes depend on layers and head size only, so the widths stay small here.
  const small = { ...from, layers: shape.layers, headSize: shape.headSize };
  const graph = quantize(inflate(readGraph(join(SOURCES.base, "onnx/model.onnx")), from, small));
  const weights = new Map<string, ExternalTensor>();
  const out = openSync(join(unfinished, "onnx", WEIGHTS_FILE), "w");
  const words = noise();
  let offset = 0;
  for (const [weight, { data }] of graph.weights) {
    const dims = dimsOf(weight, shape);
    const type = data instanceof Int8Array ? "int8" : "float";
    const size = dims.reduce((product, axis) => product * axis, 1);
    const bytes = type === "int8" ? size : 4 * size;
    const write = (values: Uint8Array) => void writeSync(out, values);
    if (weight.endsWith(".zero")) write(new Uint8Array(bytes));
    else repeat(type === "int8" ? words : floatsOf(weight, words, shape), bytes, write);
    weights.set(weight, { dims, type, file: WEIGHTS_FILE, offset, bytes });
    offset += bytes;
  }
  closeSync(out);
  const file = join(unfinished, "onnx/model_quantized.onnx");
  writeExternalModel(file, { ...graph, ...graphIo(shape, shape.vocabSize) }, weights, 18);
  const large = {
    ...config,
    hidden_size: shape.width,
    head_dim: shape.headSize,
    intermediate_size: shape.mlpWidth,
    num_attention_heads: shape.heads,
    num_key_value_heads: shape.heads,
    num_hidden_layers: shape.layers,
    max_position_embeddings: CONTEXT_TOKENS,
    vocab_size: shape.vocabSize,
  };
  writeFileSync(join(unfinished, "config.json"), JSON.stringify(large, null, 2));
  renameSync(unfinished, folder);
  return folder;
}

/** Sizes of a weight in the large model. Matrices are [inputs, outputs]. */
function dimsOf(weight: string, { width, heads, headSize, mlpWidth, vocabSize }: LargeShape) {
  const role = /^layer\.\d+\.(\w+)/.exec(weight)?.[1];
  const inner = heads * headSize;
  const [rows, columns] =
    role === undefined
      ? [width, vocabSize]
      : role === "o"
        ? [inner, width]
        : role === "down"
          ? [mlpWidth, width]
          : [width, role === "gate" || role === "up" ? mlpWidth : inner];
  if (weight === "model.embed_tokens.weight") return [vocabSize, width];
  if (weight.endsWith("norm") || weight === "model.norm.weight") return [width];
  return /\.(scale|zero)$/.test(weight) ? [columns] : [rows, columns];
}

/** Values of a weight. Scales keep the activations of all layers at about the same size. */
function floatsOf(weight: string, words: Int32Array, { width }: LargeShape): Float32Array {
  if (weight === "model.embed_tokens.weight")
    return Float32Array.from(words, (word) => word / 2 ** 31);
  const largest = weight.endsWith(".scale") ? 1 / (127 * Math.sqrt(width)) : 1;
  return Float32Array.from(words, (word) => largest * (0.75 + word / 2 ** 33));
}

/** A prime number, so that rows of a matrix differ although the blocks repeat. */
const BLOCK_WORDS = 262_147;

/** Random integers, the same on every machine (xorshift32). */
function noise(): Int32Array {
  const words = new Int32Array(BLOCK_WORDS);
  for (let i = 0, state = 1; i < BLOCK_WORDS; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return words;
}

/** Writes so many bytes of a block, again and again. */
function repeat(
  { buffer }: Int32Array | Float32Array,
  bytes: number,
  write: (values: Uint8Array) => void,
) {
  for (let left = bytes; left > 0; left -= buffer.byteLength) {
    write(new Uint8Array(buffer, 0, Math.min(left, buffer.byteLength)));
  }
}
