/** The model card: a worker's description of a model (an ensemble) that it serves. */
import * as v from "valibot";
import { fromJson } from "../redis/fields.ts";

/** Most tokens of a job, prompt and output, that the KV caches of a worker hold when it runs alone. */
export const JobTokensMax = v.object({
  /** A job that the model's own expert and antiexpert steer. */
  steered: v.number(),
  /** A job at alpha 0: only the base runs. */
  base: v.number(),
});
export type JobTokensMax = v.InferOutput<typeof JobTokensMax>;

export const ModelCard = v.object({
  id: v.string(),
  description: v.string(),
  createdAtMs: v.number(),
  contextTokens: v.number(),
  vocabSize: v.number(),
  /**
   * Most bytes that one token can stand for, of prompts and user messages as UTF-8 without the spaces around them. Null if the
   * tokenizer or the template may drop text.
   */
  tokenBytesMax: v.optional(v.nullable(v.number()), null),
  alphaDefault: v.number(),
  alphaMax: v.number(),
  /** Fingerprint of the base model: ensembles with the same value have the same base. */
  base: v.string(),
  /** Fingerprint of the three models with their tokenizers and templates; empty in a card of an older worker. */
  fingerprint: v.optional(v.string(), ""),
  /** The format of its calls of functions (shared/tools/formats.ts); absent in a card of an older worker. */
  toolFormat: v.exactOptional(v.string()),
  /** Whether the same request with the same seed always gives the same text; false in a card of an older worker. */
  reproducible: v.optional(v.boolean(), false),
  /** Models that run as they were exported, and why (worker/engine/model/graph-form.ts); absent if there are none. */
  slowGraphs: v.exactOptional(v.array(v.object({ role: v.string(), reason: v.string() }))),
  /** Of the worker whose card this is; others may hold more. Absent in a card of an older worker. */
  jobTokensMax: v.exactOptional(JobTokensMax),
});
export type ModelCard = v.InferOutput<typeof ModelCard>;

export const ModelCardJson = v.pipe(fromJson, ModelCard);
