/**
 * A model folder as the Hugging Face hub has it: config.json, generation_config.json, tokenizer files, and
 * graphs under onnx/ named after their weight format.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import type { Decoder } from "./decoder.ts";
import { loadGraph, prepareFile, type DecoderConfig, type GraphSource } from "./load-graph.ts";
import type { Prepared } from "./prepared-file.ts";
import type { SessionOptions } from "./session.ts";

/** Weight format -> file name, as onnx-community publishes them. */
const GRAPHS = {
  fp32: "model.onnx",
  fp16: "model_fp16.onnx",
  int8: "model_quantized.onnx",
  q8: "model_q8.onnx",
  q4: "model_q4.onnx",
  q4f16: "model_q4f16.onnx",
} as const;
export type Dtype = keyof typeof GRAPHS;
export const DTYPES = Object.keys(GRAPHS) as Dtype[];

const positive = v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1)));

const Config = v.object({
  max_position_embeddings: positive,
  n_positions: positive,
  num_attention_heads: positive,
  n_head: positive,
  num_key_value_heads: positive,
  hidden_size: positive,
  n_embd: positive,
  head_dim: positive,
  sliding_window: v.nullish(v.number()),
  use_sliding_window: v.nullish(v.boolean()),
  window_size: v.nullish(v.number()),
  attention_chunk_size: v.nullish(v.number()),
  eos_token_id: v.nullish(v.union([v.number(), v.array(v.number())])),
});
/** What config.json and generation_config.json say that serving depends on. */
export interface ModelConfig extends DecoderConfig {
  /** Positions that the model was made for, or null if config.json does not say. */
  readonly contextTokens: number | null;
  readonly eosIds: readonly number[];
}

export function readConfig(folder: string): ModelConfig {
  const config = parseConfig(join(folder, "config.json"));
  const generationFile = join(folder, "generation_config.json");
  const generation = existsSync(generationFile) ? parseConfig(generationFile) : null;
  const heads = config.num_attention_heads ?? config.n_head ?? 1;
  return {
    contextTokens: config.max_position_embeddings ?? config.n_positions ?? null,
    // generation_config.json is what generation obeys; chat models list their extra end tokens there.
    eosIds: [generation?.eos_token_id ?? config.eos_token_id ?? []].flat(),
    kvHeads: config.num_key_value_heads ?? heads,
    headDim: config.head_dim ?? (config.hidden_size ?? config.n_embd ?? heads) / heads,
    limitedAttention: hasLimitedAttention(config),
  };
}

function parseConfig(file: string): v.InferOutput<typeof Config> {
  const raw = readJson(file) as { text_config?: object };
  // Multimodal models keep the language model's values one level down.
  const parsed = v.safeParse(Config, { ...raw, ...raw.text_config });
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new Error(`${file}: ${v.getDotPath(issue) ?? "(root)"}: ${issue.message}`);
}

/** Attention windows under the names that architectures give them. */
function hasLimitedAttention(config: v.InferOutput<typeof Config>): boolean {
  const slides = config.use_sliding_window !== false && Boolean(config.sliding_window);
  return slides || Boolean(config.window_size) || Boolean(config.attention_chunk_size);
}

/** A graph of a model folder. */
export interface GraphOptions extends SessionOptions {
  readonly dtype: Dtype;
}

export function loadDecoder(folder: string, options: GraphOptions): Promise<Decoder> {
  return withGraph(folder, options, loadGraph);
}

/** Prepares a graph, also if that was done before. */
export function prepareDecoder(folder: string, options: GraphOptions): Promise<Prepared> {
  return withGraph(folder, options, prepareFile);
}

/** The file of a weight format, which need not exist. */
export function graphFile(folder: string, dtype: Dtype): string {
  return join(folder, "onnx", GRAPHS[dtype]);
}

async function withGraph<T>(
  folder: string,
  { dtype, ...options }: GraphOptions,
  use: (source: GraphSource) => Promise<T>,
): Promise<T> {
  const file = graphFile(folder, dtype);
  if (!existsSync(file)) throw new Error(`${file} does not exist`);
  try {
    return await use({ file, config: readConfig(folder), options });
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

export function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as unknown;
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
