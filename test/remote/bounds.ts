/** Whether the bound of a token that is not proven holds: the distance of its distribution to the exact one. */
import type { Sequence } from "../../worker/engine/loop/sequence.ts";

/** [V] probabilities after penalties, bias and constraint, before truncation; greedy at temperature 1. */
export function distributionOf(sequence: Sequence): Float64Array {
  const { sampler } = sequence.request;
  const [last] = sequence.tokens.slice(-1);
  // The distribution of the last token is that before it was accepted.
  sampler.rewind(1);
  const { upper, temperature } = sampler.describe(Float32Array.from(sequence.logits));
  sampler.accept(last!);
  const scale = temperature === 0 ? 1 : temperature;
  const max = upper.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);
  const weights = Float64Array.from(upper, (logit) => Math.exp((logit - max) / scale));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / sum);
}

export function totalVariation(one: Float64Array, other: Float64Array): number {
  return one.reduce((sum, value, i) => sum + Math.abs(value - other[i]!), 0) / 2;
}
