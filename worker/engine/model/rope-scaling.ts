/**
 * Context lengths of scaled rotary positions. An export by tracing has the factors of one length only: those of a short prompt.
 * Where the factors depend on the length (longrope, dynamic), the graph is right up to the original length and wrong beyond it.
 * Graphs of onnxruntime-genai's builder choose between two sets of factors by the width of the mask, which is that of the longest
 * row of a run, and the keys that are in a cache keep the factors with which they were computed. So they end there too.
 */
import * as v from "valibot";

const Values = v.looseObject({
  rope_type: v.nullish(v.string()),
  type: v.nullish(v.string()),
  factor: v.optional(v.unknown()),
  original_max_position_embeddings: v.nullish(v.number()),
});

/** Values for the whole model, or for each kind of layer. */
export const RopeScaling = v.union([v.record(v.string(), v.nullable(Values)), Values]);

export interface RopeLimit {
  /** Null if the scaling says nothing about the length. */
  readonly tokens: number | null;
  readonly reason: string | null;
}

/**
 * @param original of the config, beside the scaling
 * @param declared context length of the config
 * @throws Error if the length is not known up to which the graph is right
 */
export function ropeLimit(
  rope: v.InferOutput<typeof RopeScaling> | null,
  original: number | null,
  declared: number | null,
): RopeLimit {
  const limits = kinds(rope).map((values) => limitOf(values, original, declared));
  const known = limits.filter(({ tokens }) => tokens !== null);
  const [first = { tokens: null, reason: null }] = known.toSorted((a, b) => a.tokens! - b.tokens!);
  return first;
}

type RopeValues = v.InferOutput<typeof Values>;

function kinds(rope: v.InferOutput<typeof RopeScaling> | null): RopeValues[] {
  if (rope === null) return [];
  const nested = Object.values(rope).filter((value) => typeof value === "object" && value !== null);
  const isOne = nested.length === 0 || "rope_type" in rope || "type" in rope;
  return isOne ? [rope] : (nested as RopeValues[]);
}

function limitOf(values: RopeValues, original: number | null, declared: number | null): RopeLimit {
  const type = values.rope_type ?? values.type ?? "default";
  const length = values.original_max_position_embeddings ?? original;
  switch (type) {
    case "longrope":
    case "su":
    case "dynamic": {
      const tokens = length ?? (type === "dynamic" ? declared : null);
      if (tokens === null) throw new Error(`${type} needs original_max_position_embeddings`);
      const reason = `its rope scaling (${type}) changes with the length, so the graph is right for the original ${tokens} tokens only`;
      return { tokens, reason };
    }
    case "yarn": {
      // The length before scaling, times the factor: max_position_embeddings has it before or after.
      if (length === null || typeof values.factor !== "number")
        return { tokens: null, reason: null };
      return { tokens: Math.round(length * values.factor), reason: null };
    }
    default:
      return { tokens: null, reason: null };
  }
}
