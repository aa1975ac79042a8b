/**
 * Reads a model folder as on the Hugging Face hub: config.json, generation_config.json, and graphs in onnx/ whose file names
 * depend on the weight format. The tokenizer files are read in tokenizer.ts.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import type { Decoder } from "../decoder/decoder.ts";
import { inspectGraph, type GraphFacts } from "../graph/inspect.ts";
import { loadGraph, prepareAndSave, type DecoderConfig } from "./load-graph.ts";
import type { PreparedGraph } from "../graph/prepared-file.ts";
import type { SessionOptions } from "../decoder/session.ts";

/**
 * Weight format -> file name. File names are those of onnx-community. transformers.js has other names for two formats: its
 * `q8` is the file of `int8` here. `q8` here has blocks of 8-bit weights, as `q4` has blocks of 4-bit weights.
 */
const GRAPH_FILES = {
  fp32: "model.onnx",
  fp16: "model_fp16.onnx",
  int8: "model_quantized.onnx",
  q8: "model_q8.onnx",
  q4: "model_q4.onnx",
  q4f16: "model_q4f16.onnx",
} as const;
export type Dtype = keyof typeof GRAPH_FILES;
export const DTYPES = Object.keys(GRAPH_FILES) as Dtype[];

const optionalPositive = v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1)));

const Config = v.object({
  max_position_embeddings: optionalPositive,
  n_positions: optionalPositive,
  num_attention_heads: optionalPositive,
  n_head: optionalPositive,
  num_key_value_heads: optionalPositive,
  hidden_size: optionalPositive,
  n_embd: optionalPositive,
  head_dim: optionalPositive,
  sliding_window: v.nullish(v.number()),
  use_sliding_window: v.nullish(v.boolean()),
  window_size: v.nullish(v.number()),
  attention_chunk_size: v.nullish(v.number()),
  eos_token_id: v.nullish(v.union([v.number(), v.array(v.number())])),
});

/** Values from config.json and generation_config.json. */
export interface ModelConfig extends DecoderConfig {
  /** Context length in tokens; null if config.json does not have it. */
  readonly contextTokens: number | null;
  /** End-of-sequence tokens. */
  readonly eosIds: readonly number[];
}

/** @throws Error with file, field and reason */
export function readConfig(folder: string): ModelConfig {
  const config = parseConfig(join(folder, "config.json"));
  const generationFile = join(folder, "generation_config.json");
  const generation = existsSync(generationFile) ? parseConfig(generationFile) : null;
  const heads = config.num_attention_heads ?? config.n_head ?? 1;
  return {
    contextTokens: config.max_position_embeddings ?? config.n_positions ?? null,
    // generation_config.json has priority: chat models list their additional end-of-sequence tokens there.
    eosIds: [generation?.eos_token_id ?? config.eos_token_id ?? []].flat(),
    kvHeads: config.num_key_value_heads ?? heads,
    headDim: config.head_dim ?? (config.hidden_size ?? config.n_embd ?? heads) / heads,
    hasAttentionWindow: hasAttentionWindow(config),
  };
}

function parseConfig(file: string): v.InferOutput<typeof Config> {
  const raw = readJson(file) as { text_config?: object };
  // In multimodal models the values of the language model are in `text_config`.
  const parsed = v.safeParse(Config, { ...raw, ...raw.text_config });
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new Error(`${file}: ${v.getDotPath(issue) ?? "(root)"}: ${issue.message}`);
}

/** Each architecture has its own name for the attention window. */
function hasAttentionWindow(config: v.InferOutput<typeof Config>): boolean {
  const hasSlidingWindow = config.use_sliding_window !== false && Boolean(config.sliding_window);
  return hasSlidingWindow || Boolean(config.window_size) || Boolean(config.attention_chunk_size);
}

/** Selects a graph of a model folder, and says how to run it. */
export interface GraphOptions extends SessionOptions {
  readonly dtype: Dtype;
}

/** @throws Error with file and reason */
export function loadDecoder(folder: string, { dtype, ...options }: GraphOptions): Promise<Decoder> {
  return withGraphFile(folder, dtype, (file) =>
    loadGraph({ file, config: readConfig(folder), options }),
  );
}

/** Prepares a graph and replaces a stored result. @throws Error with file and reason */
export function prepareDecoder(
  folder: string,
  { dtype, ...options }: GraphOptions,
): Promise<PreparedGraph> {
  return withGraphFile(folder, dtype, (file) =>
    prepareAndSave({ file, config: readConfig(folder), options }),
  );
}

/** Facts about a graph file, without loading it. @throws Error with file and reason */
export function inspectModel(folder: string, dtype: Dtype): Promise<GraphFacts> {
  return withGraphFile(folder, dtype, async (file) => inspectGraph(file));
}

/** Path of the graph in a weight format; the file may not exist. */
export function graphFile(folder: string, dtype: Dtype): string {
  return join(folder, "onnx", GRAPH_FILES[dtype]);
}

async function withGraphFile<T>(
  folder: string,
  dtype: Dtype,
  use: (file: string) => Promise<T>,
): Promise<T> {
  const file = graphFile(folder, dtype);
  if (!existsSync(file)) throw new Error(`${file} does not exist`);
  try {
    return await use(file);
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}

/** @throws Error with file and reason */
export function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, "utf8")) as unknown;
  } catch (error) {
    throw new Error(`${file}: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
}
