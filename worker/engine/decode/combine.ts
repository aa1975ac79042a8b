/**
 * Proxy-tuning: logits = base + alpha * (expert - antiexpert).
 * Liu et al. 2024, "Tuning Language Models by Proxy", arXiv 2401.08565, section 2.
 *
 * The folder decode/ owns the arithmetic on logits and token ids. It imports nothing from other folders: no models, no
 * KV cache, no onnxruntime. Combining, guards, sampling and stop strings are here; models run in decoder/. The costly loops over a
 * vocabulary are in simd/.
 */
import { addressOf, kernels, place, read, reserve } from "./simd/vectors.ts";

/**
 * Writes the steered logits into `out`.
 * @param out Float32Array of length V, the size of the vocabulary
 * @param base, expert, antiexpert logits of length V or more; the rest is padding and is not read
 * @param alpha strength of the shift; 0 gives the base logits
 * @throws RangeError if a model has fewer than V logits
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
      `The models returned ${base.length}, ${expert.length} and ${antiexpert.length} logits; the vocabulary has ${size} tokens`,
    );
  }
  // A model may mask a token with -Infinity. The difference may then be NaN, and the token stays masked.
  const length = reserve(size);
  const own = place(0, base, { size });
  const [tuned, untuned] = [place(1, expert, { size }), place(2, antiexpert, { size })];
  kernels.combine(addressOf(3), own, tuned, untuned, length, alpha);
  read(out, 3);
}
