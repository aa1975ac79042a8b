/** Reads genai_config.json, which onnxruntime-genai's builder writes instead of config.json. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import * as v from "valibot";

const FILE = "genai_config.json";
const optionalNumber = v.optional(v.number());

const GenaiConfig = v.object({
  model: v.object({
    context_length: optionalNumber,
    eos_token_id: v.optional(v.union([v.number(), v.array(v.number())])),
    type: v.optional(v.string()),
    decoder: v.object({
      filename: v.optional(v.string()),
      head_size: optionalNumber,
      num_attention_heads: optionalNumber,
      num_key_value_heads: optionalNumber,
    }),
  }),
});

function read(folder: string): v.InferOutput<typeof GenaiConfig> | null {
  const file = join(folder, FILE);
  if (!existsSync(file)) return null;
  try {
    return v.parse(GenaiConfig, JSON.parse(readFileSync(file, "utf8")));
  } catch (error) {
    throw new Error(`${file}: ${(error as Error).message}`, { cause: error });
  }
}

/** Name of the graph file; null without a genai_config.json. */
export function genaiGraphName(folder: string): string | null {
  return read(folder)?.model.decoder.filename ?? null;
}

/** Its values under the names of config.json; null without a genai_config.json. */
export function genaiAsConfig(folder: string): Record<string, unknown> | null {
  const config = read(folder);
  if (!config) return null;
  const { context_length, eos_token_id, type, decoder } = config.model;
  return {
    model_type: type,
    max_position_embeddings: context_length,
    eos_token_id,
    num_attention_heads: decoder.num_attention_heads,
    num_key_value_heads: decoder.num_key_value_heads,
    head_dim: decoder.head_size,
  };
}
