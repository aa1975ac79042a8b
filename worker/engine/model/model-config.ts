/**
 * Reads config.json and generation_config.json of a model folder as on the Hugging Face hub. onnxruntime-genai's builder writes
 * genai_config.json instead.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";
import { genaiAsConfig } from "./genai-config.ts";
import { readJson } from "./json-file.ts";
import type { DecoderConfig } from "./load-graph.ts";
import { RopeScaling, ropeLimit, type RopeLimit } from "./rope-scaling.ts";

const optionalPositive = v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1)));

/** The names that architectures have for their context length. */
const CONTEXT_KEYS = [
  "max_position_embeddings",
  "n_positions",
  "max_seq_len",
  "seq_length",
  "n_ctx",
  "max_sequence_length",
] as const;

const Config = v.object({
  model_type: v.nullish(v.string()),
  max_position_embeddings: optionalPositive,
  n_positions: optionalPositive,
  max_seq_len: optionalPositive,
  seq_length: optionalPositive,
  n_ctx: optionalPositive,
  max_sequence_length: optionalPositive,
  original_max_position_embeddings: optionalPositive,
  rope_scaling: v.nullish(RopeScaling),
  rope_parameters: v.nullish(RopeScaling),
  num_attention_heads: optionalPositive,
  n_head: optionalPositive,
  num_key_value_heads: optionalPositive,
  hidden_size: optionalPositive,
  n_embd: optionalPositive,
  head_dim: optionalPositive,
  sliding_window: v.nullish(v.number()),
  use_sliding_window: v.nullish(v.boolean()),
  window_size: v.nullish(v.number()),
  attention_chunk_size: v.nullish(v.pipe(v.number(), v.minValue(0))),
  attn_logit_softcapping: v.nullish(v.number()),
  alibi: v.nullish(v.boolean()),
  eos_token_id: v.nullish(v.union([v.number(), v.array(v.number())])),
});
type Config = v.InferOutput<typeof Config>;

/** Values from config.json and generation_config.json. */
export interface ModelConfig extends DecoderConfig {
  readonly modelType: string | null;
  /** Context length in tokens; null if config.json does not have it. */
  readonly contextTokens: number | null;
  /** Why the context is shorter than config.json says; null if it is not. */
  readonly contextReason: string | null;
  /** End-of-sequence tokens. */
  readonly eosIds: readonly number[];
  /** Tokens of a chunk that attention stays within in some layers; null if there are none. */
  readonly attentionChunk: number | null;
  /** Whether attention scores have a soft cap. */
  readonly hasSoftCap: boolean;
  readonly hasAlibi: boolean;
}

/** @throws Error with file, field and reason */
export function readConfig(folder: string): ModelConfig {
  const file = join(folder, "config.json");
  const genai = existsSync(file) ? null : genaiAsConfig(folder);
  const config = parseConfig(file, genai ?? readJson(file));
  const generationFile = join(folder, "generation_config.json");
  const generation = existsSync(generationFile)
    ? parseConfig(generationFile, readJson(generationFile))
    : null;
  const heads = config.num_attention_heads ?? config.n_head ?? 1;
  return {
    modelType: config.model_type ?? null,
    ...contextOf(file, config),
    // generation_config.json has priority: chat models list their additional end-of-sequence tokens there.
    eosIds: [generation?.eos_token_id ?? config.eos_token_id ?? []].flat(),
    attentionHeads: heads,
    kvHeads: config.num_key_value_heads ?? heads,
    headDim: config.head_dim ?? (config.hidden_size ?? config.n_embd ?? heads) / heads,
    hasAttentionWindow: hasAttentionWindow(config),
    hasAttentionChunks: Boolean(config.attention_chunk_size),
    attentionChunk: config.attention_chunk_size || null,
    hasSoftCap: Boolean(config.attn_logit_softcapping),
    hasAlibi: config.alibi === true,
  };
}

function parseConfig(file: string, json: unknown): Config {
  const raw = json as { text_config?: object };
  // In multimodal models the values of the language model are in `text_config`.
  const parsed = v.safeParse(Config, { ...raw, ...raw.text_config });
  if (parsed.success) return parsed.output;
  const [issue] = parsed.issues;
  throw new Error(`${file}: ${v.getDotPath(issue) ?? "(root)"}: ${issue.message}`);
}

/** The smallest of the context lengths that a config has, as far as the exported graph is right. */
function contextOf(
  file: string,
  config: Config,
): Pick<ModelConfig, "contextTokens" | "contextReason"> {
  const lengths = CONTEXT_KEYS.flatMap((key) => config[key] ?? []);
  const declared = lengths.length === 0 ? null : Math.min(...lengths);
  const rope = config.rope_scaling ?? config.rope_parameters ?? null;
  let limit: RopeLimit;
  try {
    limit = ropeLimit(rope, config.original_max_position_embeddings ?? null, declared);
  } catch (error) {
    throw new Error(`${file}: rope_scaling: ${(error as Error).message}`, { cause: error });
  }
  const isShorter = declared !== null && limit.tokens !== null && limit.tokens < declared;
  return {
    contextTokens: limit.tokens ?? declared,
    contextReason: isShorter ? limit.reason : null,
  };
}

/** Each architecture has its own name for the attention window. */
function hasAttentionWindow(config: Config): boolean {
  const hasSlidingWindow = config.use_sliding_window !== false && Boolean(config.sliding_window);
  return hasSlidingWindow || Boolean(config.window_size);
}
