/**
 * Guards against what proxy-tuning is known to do wrong: lift what no model would say, shift too far, and shift by the
 * noise of a pair that agrees. Each acts on the shift alone: where alpha is 0, or a guard makes it 0, what comes out is
 * the base itself. All depend on one position's logits and nothing else.
 */
import { combineLogits } from "./combine.ts";
import { logSumExp, maxOf, weigh } from "./exp.ts";
import { nucleus } from "./truncate.ts";

export interface Guards {
  /**
   * Only tokens of the base's nucleus of this mass may come out (DExperts, arXiv 2105.03023, `filter_p`): the shift
   * chooses among what the base finds plausible.
   */
  readonly baseNucleus?: number;
  /** KL(steered || base) of a position stays within this, in nats; alpha is scaled down to it. */
  readonly klBudget?: number;
  /** No shift where expert and antiexpert differ by less: total variation distance, 0 to 1. */
  readonly fallback?: number;
}

/** Of a budget, what is aimed at: from there, rounding does not leave it. */
const BUDGET_SHARE = 1 - 1e-4;
/** Bisection alone needs 14 to come as close. */
const SOLVER_STEPS_MAX = 30;

/** Steers within guards. Scratch is made once, of V numbers. */
export class Guard {
  readonly #guards: Guards;
  readonly #weights: Float32Array;
  readonly #others: Float32Array;
  /** Mean and variance of the last measured shift, under the steered distribution. */
  readonly #moments = new Float64Array(2);

  constructor(guards: Guards, vocabSize: number) {
    this.#guards = guards;
    this.#weights = new Float32Array(vocabSize);
    this.#others = new Float32Array(vocabSize);
  }

  /**
   * Writes the steered logits into `out`.
   * @param out, base, expert, antiexpert [V]
   * @returns the alpha that is left
   */
  steer(
    out: Float32Array,
    base: Float32Array,
    expert: Float32Array,
    antiexpert: Float32Array,
    alpha: number,
  ): number {
    const { baseNucleus = 1, klBudget, fallback = 0 } = this.#guards;
    if (alpha !== 0 && !(fallback > 0 && this.#agree(expert, antiexpert, fallback))) {
      const kept = baseNucleus < 1 ? nucleus(base, null, baseNucleus) : null;
      const steer = (strength: number) => {
        combineLogits(out, base, expert, antiexpert, strength);
        if (kept) keepOnly(out, kept);
      };
      const left = klBudget === undefined ? alpha : this.#withinBudget(out, base, steer, alpha);
      if (left !== 0) {
        steer(left);
        return left;
      }
    }
    out.set(base);
    return 0;
  }

  #agree(expert: Float32Array, antiexpert: Float32Array, threshold: number): boolean {
    const [weights, others] = [this.#weights, this.#others];
    const sum = weigh(weights, expert, maxOf(expert));
    const otherSum = weigh(others, antiexpert, maxOf(antiexpert));
    return absoluteDifference(weights, others, 1 / sum, 1 / otherSum) / 2 < threshold;
  }

  /**
   * The alpha of the largest magnitude within the budget, 0 if there is none. KL rises with the magnitude, as its
   * derivative is alpha times the variance of expert - antiexpert under the steered distribution; so Newton's method finds
   * it, kept in bounds by bisection: three to six passes where the budget is exceeded, one where it is not.
   */
  #withinBudget(
    out: Float32Array,
    base: Float32Array,
    steer: (alpha: number) => void,
    alpha: number,
  ): number {
    const budget = this.#guards.klBudget!;
    const baseLog = logSumExp(base, this.#weights);
    const sign = Math.sign(alpha);
    const klAt = (strength: number) => {
      steer(sign * strength);
      return this.#measure(out, base, baseLog);
    };
    const most = Math.abs(alpha);
    if (klAt(most) <= budget) return alpha;
    const goal = budget * BUDGET_SHARE;
    // A base nucleus alone may cost more.
    if (this.#guards.baseNucleus !== undefined && klAt(0) > goal) return 0;
    let [low, high, at] = [0, most, most];
    let kl = klAt(at);
    for (let step = 0; step < SOLVER_STEPS_MAX; step++) {
      // A last step from close by makes the solution the same whichever way it was come to.
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

  /** KL(steered || base); leaves the moments of the shift. */
  #measure(steered: Float32Array, base: Float32Array, baseLog: number): number {
    const max = maxOf(steered);
    const sum = weigh(this.#weights, steered, max);
    shiftMoments(this.#moments, this.#weights, steered, base);
    const mean = this.#moments[0]! / sum;
    this.#moments[1] = this.#moments[1]! / sum - mean * mean;
    return mean - (max + Math.log(sum)) + baseLog;
  }
}

function keepOnly(logits: Float32Array, ids: readonly number[]): void {
  const kept = ids.map((id) => logits[id]!);
  logits.fill(Number.NEGATIVE_INFINITY);
  for (let i = 0; i < ids.length; i++) logits[ids[i]!] = kept[i]!;
}

/** Sum of |weight * scale - other * otherScale|. */
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

/** Writes the weighted sums of the shift, steered - base, and of its square. */
function shiftMoments(
  out: Float64Array,
  weights: Float32Array,
  steered: Float32Array,
  base: Float32Array,
): void {
  let [sum, squares] = [0, 0];
  for (let i = 0; i < weights.length; i++) {
    const weight = weights[i]!;
    // 0 * -Infinity is no number.
    if (weight === 0) continue;
    const shift = steered[i]! - base[i]!;
    sum += weight * shift;
    squares += weight * shift * shift;
  }
  out[0] = sum;
  out[1] = squares;
}
