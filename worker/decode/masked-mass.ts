/** What a constraint takes from a distribution. */
import { maxOf, weigh } from "./exp.ts";

/**
 * The probability of the tokens that may not come, 0 to 1; exactly 1 where none of the others has any.
 * @param logits [V]
 * @param masked [V] the same with -Infinity for tokens that may not come
 * @param weights [V] scratch
 */
export function maskedMass(
  logits: Float32Array,
  masked: Float32Array,
  weights: Float32Array,
): number {
  const total = weigh(weights, logits, maxOf(logits));
  // Summed up by itself: as the difference of two sums, little would be rounded away.
  let lost = 0;
  let kept = 0;
  for (let i = 0; i < masked.length; i++) {
    if (masked[i] === Number.NEGATIVE_INFINITY) lost += weights[i]!;
    else kept += weights[i]!;
  }
  return kept === 0 ? 1 : lost / total;
}
