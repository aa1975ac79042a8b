/**
 * Writes a GGUF file for llama.cpp from the weights of an inflated graph: float32, or Q8_0 (blocks of 32 int8 with a float16 scale).
 * Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
 */
import { closeSync, openSync, writeSync } from "node:fs";
import type { ModelShape } from "./inflate.ts";
import type { Graph, Tensor } from "./onnx.ts";

/** Types of metadata values. */
const [UINT32, FLOAT32, STRING, ARRAY] = [4, 6, 8, 9];
/** Types of tensors. */
const [F32, Q8_0] = [0, 8];
/** Weights of a Q8_0 block. */
const BLOCK = 32;
const ALIGNMENT_BYTES = 32;
/** Weight in the inflated graph -> name in GGUF. */
const NAMES = {
  q: "attn_q",
  k: "attn_k",
  v: "attn_v",
  o: "attn_output",
  gate: "ffn_gate",
  up: "ffn_up",
  down: "ffn_down",
};

export interface GgufOptions {
  readonly shape: ModelShape;
  /** Head size of the trained model, by whose square root the graph divides attention scores. */
  readonly scoreHeadSize: number;
  readonly vocabSize: number;
  readonly contextTokens: number;
  readonly epsilon: number;
  /** [headSize / 2] radians per position. */
  readonly frequencies: Float32Array;
  readonly quantized: boolean;
}

interface GgufTensor {
  readonly name: string;
  readonly dims: readonly number[];
  readonly type: number;
  readonly bytes: Uint8Array;
}

export function writeGguf(file: string, weights: Graph["weights"], options: GgufOptions): void {
  const tensors = tensorsOf(weights, options);
  const head: Buffer[] = [Buffer.from("GGUF"), u32(3), u64(tensors.length), ...metadata(options)];
  let offset = 0;
  for (const { name, dims, type, bytes } of tensors) {
    head.push(text(name), u32(dims.length), ...dims.map(u64), u32(type), u64(offset));
    offset += padded(bytes.length);
  }
  const out = openSync(file, "w");
  const start = Buffer.concat(head);
  writeSync(out, Buffer.concat([start, Buffer.alloc(padded(start.length) - start.length)]));
  for (const { bytes } of tensors) {
    writeSync(out, bytes);
    writeSync(out, Buffer.alloc(padded(bytes.length) - bytes.length));
  }
  closeSync(out);
}

function tensorsOf(weights: Graph["weights"], options: GgufOptions): GgufTensor[] {
  const { shape, scoreHeadSize, frequencies, quantized } = options;
  // llama.cpp divides by the square root of the head size that it is told.
  const queryFactor = Math.sqrt(shape.headSize / scoreHeadSize);
  const of = (name: string) => weights.get(name)!;
  const vector = (name: string, data: Float32Array): GgufTensor => ({
    name: `${name}.weight`,
    dims: [data.length],
    type: F32,
    bytes: new Uint8Array(data.buffer),
  });
  const half = frequencies.length;
  // llama.cpp divides its frequencies by these factors.
  const factors = frequencies.map((frequency, i) => 1e4 ** (-i / half) / frequency);
  const { dims, data } = of("model.embed_tokens.weight");
  const embedding = { dims, data } as Tensor & { data: Float32Array };
  const tensors = [
    matrix("token_embd", embedding.data, dims[1]!, quantized),
    vector("output_norm", of("model.norm.weight").data as Float32Array),
    vector("rope_freqs", factors),
  ];
  for (let at = 0; at < shape.layers; at++) {
    const layer = (name: string) => of(`layer.${at}.${name}`);
    tensors.push(
      vector(`blk.${at}.attn_norm`, layer("input_norm").data as Float32Array),
      vector(`blk.${at}.ffn_norm`, layer("mlp_norm").data as Float32Array),
    );
    for (const [role, name] of Object.entries(NAMES)) {
      const headSize = role === "q" || role === "k" ? shape.headSize : null;
      const value = layer(role);
      const rows = transposed(value, headSize);
      if (role === "q") for (let i = 0; i < rows.length; i++) rows[i] = rows[i]! * queryFactor;
      tensors.push(matrix(`blk.${at}.${name}`, rows, value.dims[0]!, quantized));
    }
  }
  return tensors;
}

/**
 * Transposes [in, out] to [out, in]. With a head size, the entries of each head are reordered: for rotary embeddings
 * llama.cpp pairs neighbouring entries, and Hugging Face pairs entries half a head apart.
 */
function transposed({ dims, data }: Tensor, headSize: number | null): Float32Array {
  const [rows, columns] = dims as [number, number];
  const turned = new Float32Array(rows * columns);
  for (let column = 0; column < columns; column++) {
    const at = headSize ? column % headSize : 0;
    const half = (headSize ?? 0) / 2;
    const target = headSize ? column - at + (at < half ? 2 * at : 2 * (at - half) + 1) : column;
    for (let row = 0; row < rows; row++) {
      turned[target * rows + row] = Number(data[row * columns + column]);
    }
  }
  return turned;
}

function matrix(name: string, data: Float32Array, width: number, quantized: boolean): GgufTensor {
  const dims = [width, data.length / width];
  const isBlocked = quantized && width % BLOCK === 0;
  const bytes = isBlocked ? blocks(data) : new Uint8Array(data.buffer);
  return { name: `${name}.weight`, dims, type: isBlocked ? Q8_0 : F32, bytes };
}

function blocks(data: Float32Array): Uint8Array {
  const bytes = Buffer.alloc((data.length / BLOCK) * (BLOCK + 2));
  const half = new Float16Array(1);
  const halfBits = new Uint16Array(half.buffer);
  for (let block = 0, at = 0; block < data.length; block += BLOCK) {
    let largest = 0;
    for (let i = 0; i < BLOCK; i++) largest = Math.max(largest, Math.abs(data[block + i]!));
    const scale = largest / 127;
    half[0] = scale;
    at = bytes.writeUInt16LE(halfBits[0]!, at);
    for (let i = 0; i < BLOCK; i++) {
      at = bytes.writeInt8(scale === 0 ? 0 : Math.round(data[block + i]! / scale), at);
    }
  }
  return bytes;
}

function metadata({ shape, vocabSize, contextTokens, epsilon }: GgufOptions): Buffer[] {
  const integer = (name: string, value: number) => [text(name), u32(UINT32), u32(value)];
  const real = (name: string, value: number) => [text(name), u32(FLOAT32), f32(value)];
  const word = (name: string, value: string) => [text(name), u32(STRING), text(value)];
  // The bench uses token ids only, but llama.cpp requires texts.
  const names = Array.from({ length: vocabSize }, (_, id) => text(`<${id}>`));
  const entries = [
    word("general.architecture", "llama"),
    integer("llama.context_length", contextTokens),
    integer("llama.embedding_length", shape.width),
    integer("llama.block_count", shape.layers),
    integer("llama.feed_forward_length", shape.mlpWidth),
    integer("llama.attention.head_count", shape.heads),
    integer("llama.attention.head_count_kv", shape.heads),
    integer("llama.attention.key_length", shape.headSize),
    integer("llama.attention.value_length", shape.headSize),
    integer("llama.rope.dimension_count", shape.headSize),
    real("llama.rope.freq_base", 1e4),
    real("llama.attention.layer_norm_rms_epsilon", epsilon),
    integer("llama.vocab_size", vocabSize),
    word("tokenizer.ggml.model", "gpt2"),
    word("tokenizer.ggml.pre", "default"),
    [text("tokenizer.ggml.tokens"), u32(ARRAY), u32(STRING), u64(vocabSize), ...names],
    [text("tokenizer.ggml.merges"), u32(ARRAY), u32(STRING), u64(1), text("< 0")],
    integer("tokenizer.ggml.bos_token_id", 1),
    integer("tokenizer.ggml.eos_token_id", 0),
  ];
  return [u64(entries.length), ...entries.flat()];
}

const padded = (bytes: number) => Math.ceil(bytes / ALIGNMENT_BYTES) * ALIGNMENT_BYTES;

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function u64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function f32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}
