/**
 * Guards limit the shift of proxy-tuning, alpha * (expert - antiexpert), where it is known to fail: it promotes tokens
 * that no model finds plausible, it moves too far from the base, or it is noise because expert and antiexpert agree. At
 * alpha 0, or where a guard sets alpha to 0, the result is the base logits. A guard depends only on the logits of one
 * position, so it works the same with drafts and after a takeover.
 *
 * To add a guard: add a field to GuardOptions and its check to GuardedCombiner.combine. Then add the field to the request
 * (shared/api/steering.ts, converted in shared/submission/steering.ts), to Generation (shared/jobs/record.ts) and to the job
 * that clients see (JobGuards in shared/api/job-parts.ts, converted in shared/protocols/job-reply.ts).
 */
import { combineLogits } from "./combine.ts";
import { expNormalize, logSumExp, maxOf } from "./exp.ts";
import { nucleus } from "./truncate.ts";

export interface GuardOptions {
  /**
   * Only tokens of the base's nucleus (top-p) of this probability mass are allowed, so the shift chooses among tokens
   * that the base finds plausible. It is `filter_p` of DExperts (arXiv 2105.03023).
   */
  readonly baseNucleus?: number;
  /** Limit of KL(steered || base) at a position, in nats; alpha is reduced until it holds. */
  readonly klBudget?: number;
  /** No shift if the total variation distance of expert and antiexpert, 0 to 1, is below this. */
  readonly fallback?: number;
}

/** Fraction of the KL budget that the solver aims at, so that rounding does not exceed the budget. */
const BUDGET_SHARE = 1 - 1e-4;
/** Bisection alone would need 14 steps for the same accuracy. */
const SOLVER_STEPS_MAX = 30;

/** Combines logits within guards. Allocates its scratch arrays once. */
export class GuardedCombiner {
  readonly #guards: GuardOptions;
  /** [V] exp(logit - max), of two distributions. */
  readonly #weights: Float32Array;
  readonly #otherWeights: Float32Array;
  /** Mean and variance of the last measured shift (steered - base), under the steered distribution. */
  readonly #moments = new Float64Array(2);

  constructor(guards: GuardOptions, vocabSize: number) {
    this.#guards = guards;
    this.#weights = new Float32Array(vocabSize);
    this.#otherWeights = new Float32Array(vocabSize);
  }

  /**
   * Writes the steered logits into `out`.
   * @param out, base, expert, antiexpert [V]
   * @returns the alpha after the guards are applied; 0 if the result is the base logits
   */
  combine(
    out: Float32Array,
    base: Float32Array,
    expert: Float32Array,
    antiexpert: Float32Array,
    alpha: number,
  ): number {
    const { baseNucleus = 1, klBudget, fallback = 0 } = this.#guards;
    if (alpha !== 0 && !(fallback > 0 && this.#agree(expert, antiexpert, fallback))) {
      const allowed = baseNucleus < 1 ? nucleus(base, null, baseNucleus) : null;
      const combine = (strength: number) => {
        combineLogits(out, base, expert, antiexpert, strength);
        if (allowed) maskOthers(out, allowed);
      };
      const limitedAlpha =
        klBudget === undefined ? alpha : this.#withinBudget(out, base, combine, alpha);
      if (limitedAlpha !== 0) {
        combine(limitedAlpha);
        return limitedAlpha;
      }
    }
    out.set(base);
    return 0;
  }

  /** Whether expert and antiexpert differ by less than the threshold (total variation distance). */
  #agree(expert: Float32Array, antiexpert: Float32Array, threshold: number): boolean {
    const [weights, others] = [this.#weights, this.#otherWeights];
    const sum = expNormalize(weights, expert, maxOf(expert));
    const otherSum = expNormalize(others, antiexpert, maxOf(antiexpert));
    return absoluteDifference(weights, others, 1 / sum, 1 / otherSum) / 2 < threshold;
  }

  /**
   * The alpha of the largest magnitude within the KL budget, 0 if there is none. KL increases with the magnitude: its
   * derivative is alpha times the variance of expert - antiexpert under the steered distribution. Newton's method finds
   * the alpha, and bisection keeps it in bounds: three to six passes if the budget is exceeded, one if not.
   */
  #withinBudget(
    out: Float32Array,
    base: Float32Array,
    combine: (alpha: number) => void,
    alpha: number,
  ): number {
    const budget = this.#guards.klBudget!;
    const baseLog = logSumExp(base, this.#weights);
    const sign = Math.sign(alpha);
    const klAt = (strength: number) => {
      combine(sign * strength);
      return this.#measure(out, base, baseLog);
    };
    const strengthMax = Math.abs(alpha);
    if (klAt(strengthMax) <= budget) return alpha;
    const goal = budget * BUDGET_SHARE;
    // The base nucleus alone, without any shift, may exceed the budget.
    if (this.#guards.baseNucleus !== undefined && klAt(0) > goal) return 0;
    let [low, high, at] = [0, strengthMax, strengthMax];
    let kl = klAt(at);
    for (let step = 0; step < SOLVER_STEPS_MAX; step++) {
      // Near the goal one more Newton step is made. The result then hardly depends on the steps before it.
      const isLast = Math.abs(kl - goal) <= budget * (1 - BUDGET_SHARE);
      if (kl > goal) high = at;
      else low = at;
      const newton = at - ((kl - goal) * at) / this.#moments[1]!;
      at = newton > low && newton < high ? newton : (low + high) / 2;
      if (isLast) return sign * at;
      kl = klAt(at);
    }
    return sign * low;
  }

  /** Returns KL(steered || base) in nats; writes mean and variance of the shift to #moments. */
  #measure(steered: Float32Array, base: Float32Array, baseLog: number): number {
    const max = maxOf(steered);
    const sum = expNormalize(this.#weights, steered, max);
    shiftMoments(this.#moments, this.#weights, steered, base);
    const mean = this.#moments[0]! / sum;
    this.#moments[1] = this.#moments[1]! / sum - mean * mean;
    return mean - (max + Math.log(sum)) + baseLog;
  }
}

/** Sets all logits to -Infinity, except those of `ids`. */
function maskOthers(logits: Float32Array, ids: readonly number[]): void {
  const values = ids.map((id) => logits[id]!);
  logits.fill(Number.NEGATIVE_INFINITY);
  for (let i = 0; i < ids.length; i++) logits[ids[i]!] = values[i]!;
}

/** Sum of |weight * scale - other * otherScale| over the vocabulary. */
function absoluteDifference(
  weights: Float32Array,
  others: Float32Array,
  scale: number,
  otherScale: number,
): number {
  let sum = 0;
  for (let i = 0; i < weights.length; i++) {
    sum += Math.abs(weights[i]! * scale - others[i]! * otherScale);
  }
  return sum;
}

/** Writes to `out` the weighted sums of the shift (steered - base) and of its square. */
function shiftMoments(
  out: Float64Array,
  weights: Float32Array,
  steered: Float32Array,
  base: Float32Array,
): void {
  let [sum, squares] = [0, 0];
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i]!;
    // 0 * -Infinity would be NaN.
    if (weight === 0) continue;
    const shift = steered[i]! - base[i]!;
    sum += weight * shift;
    squares += weight * shift * shift;
  }
  out[0] = sum;
  out[1] = squares;
}
