/**
 * The arithmetic of proxy-tuning: logits = base + alpha * (expert - antiexpert).
 * Liu et al. 2024, "Tuning Language Models by Proxy", arXiv 2401.08565, section 2.
 */

/**
 * Writes the steered logits into `out`.
 * @param out [V], V the real vocabulary; the models' rows may be wider (padding), what is beyond V is never read
 * @param base, expert, antiexpert [>= V]
 * @param alpha strength of the shift; 0 is the base itself
 */
export function combineLogits(
  out: Float32Array,
  base: Float32Array,
  expert: Float32Array,
  antiexpert: Float32Array,
  alpha: number,
): void {
  const size = out.length;
  if (base.length < size || expert.length < size || antiexpert.length < size) {
    throw new RangeError(
      `logits of ${base.length}, ${expert.length}, ${antiexpert.length} for a vocabulary of ${size}`,
    );
  }
  for (let i = 0; i < size; i++) {
    const steered = base[i]! + alpha * (expert[i]! - antiexpert[i]!);
    // A token that the models themselves mask: -Infinity - -Infinity is no number.
    out[i] = Number.isNaN(steered) ? Number.NEGATIVE_INFINITY : steered;
  }
}
