/** Several rows of logits as one: what several experts, or several antiexperts, say together. */

/**
 * Writes the weighted sum of some rows into `out`.
 * @param out [V]
 * @param rows [>= V] each
 * @param weights one per row
 */
export function mixLogits(
  out: Float32Array,
  rows: readonly Float32Array[],
  weights: readonly number[],
): void {
  for (let id = 0; id < out.length; id++) {
    let sum = 0;
    for (let i = 0; i < rows.length; i++) sum += weights[i]! * rows[i]![id]!;
    out[id] = sum;
  }
}
