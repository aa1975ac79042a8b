/**
 * Several pairs that disagree about a token: one makes it more likely, another less. With a sign election only those count at a token
 * whose sign is that of the sum, as TIES-Merging (arXiv 2306.01708) does with the parameters of merged models.
 *
 * The sign of a pair is that of its shift in log-probability. The difference of the logits has no meaning of its own: a constant
 * may be added to all logits of a model.
 */
import { logSumExp } from "./exp.ts";

/** The logits of several pairs at one position. */
export interface PairLogits {
  /** [>= V] of each pair. */
  readonly experts: readonly Float32Array[];
  readonly antiexperts: readonly Float32Array[];
  readonly weights: readonly number[];
}

/**
 * Adds the weighted shifts in log-probability of the elected pairs to `out` [V]. A token that a model masks in a way that makes its
 * shift undefined gets NaN.
 */
export function addElectedShifts(
  out: Float32Array,
  { experts, antiexperts, weights }: PairLogits,
): void {
  const size = out.length;
  const logSum = (logits: Float32Array) => logSumExp(logits.subarray(0, size));
  const offsets = experts.map((expert, i) => logSum(antiexperts[i]!) - logSum(expert));
  for (let id = 0; id < size; id++) {
    let [raised, lowered] = [0, 0];
    for (let i = 0; i < weights.length; i++) {
      const shift = weights[i]! * (experts[i]![id]! - antiexperts[i]![id]! + offsets[i]!);
      if (shift < 0) lowered += shift;
      else raised += shift;
    }
    const sum = raised + lowered;
    out[id]! += sum < 0 ? lowered : sum > 0 ? raised : sum;
  }
}
