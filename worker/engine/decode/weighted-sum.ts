/** Averages the logits of several experts, or of several antiexperts. */

/**
 * Writes the weighted sum of several logits into `out`.
 * @param out [V]
 * @param logits [>= V] of each model
 * @param weights one for each model
 */
export function weightedSum(
  out: Float32Array,
  logits: readonly Float32Array[],
  weights: readonly number[],
): void {
  for (let id = 0; id < out.length; id++) {
    let sum = 0;
    for (let i = 0; i < logits.length; i++) sum += weights[i]! * logits[i]![id]!;
    out[id] = sum;
  }
}
