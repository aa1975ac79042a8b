/** Measures the probability that a constraint (a response format) removes from a distribution. */
import { maxOf, expNormalize } from "./exp.ts";

/**
 * The probability of the forbidden tokens, 0 to 1. Exactly 1 if no allowed token has any probability.
 * @param logits [V]
 * @param masked [V] the same with -Infinity for forbidden tokens
 * @param scratch [V], overwritten
 */
export function maskedProbability(
  logits: Float32Array,
  masked: Float32Array,
  scratch: Float32Array,
): number {
  const total = expNormalize(scratch, logits, maxOf(logits));
  // Summed directly: total - allowed would lose a small value to rounding.
  let forbidden = 0;
  let allowed = 0;
  for (let i = 0; i < masked.length; i++) {
    if (masked[i] === Number.NEGATIVE_INFINITY) forbidden += scratch[i]!;
    else allowed += scratch[i]!;
  }
  return allowed === 0 ? 1 : forbidden / total;
}
