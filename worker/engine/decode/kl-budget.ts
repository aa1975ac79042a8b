/**
 * Reduces alpha until KL(steered || base) is within a budget. With x(a) = base + a * d, d = expert - antiexpert and
 * f(a) = log sum exp(x(a)), KL(a) = a * f'(a) - f(a) + f(0) where f'(a) is the mean of d under the steered distribution, and
 * KL'(a) = a * f''(a) where f''(a) is the variance of d. So KL increases with the magnitude of alpha, and one pass over the
 * vocabulary gives a value and a slope.
 *
 * The root of KL is nearly linear in alpha. A cubic through its values and slopes at 0 and at the wanted alpha gives a first
 * estimate, and Newton's method on the root the result: four passes in most cases.
 */
import { NO_BORDER, type Border } from "./border.ts";
import { logSumExp } from "./exp.ts";
import { addressOf, doubleResults, kernels, place, reserve } from "./simd/vectors.ts";

/** Fraction of the budget that the solver aims at, so that rounding does not exceed the budget. */
const BUDGET_SHARE = 1 - 1e-4;
/** Bisection alone would need 14 passes for the same accuracy. */
const PASSES_MAX = 30;

/** Sums of exp(x - max) over the vocabulary: by themselves, times the shift, and times its square. */
interface Moments {
  readonly sum: number;
  readonly first: number;
  readonly second: number;
}

/** One position's distributions: sums over the vocabulary at any alpha. The logits and the shift are in vectors of simd/. */
class Tilted {
  readonly #length: number;
  readonly #strengthMax: number;
  /** The largest logits at 0 and at the largest strength; between them they bound all others. */
  readonly #maxima: readonly [number, number];
  readonly #baseLog: number;

  /**
   * @param length of the first vector, which has base logits, -Infinity for tokens that are not allowed, and of the last one, which has the
   *   shift @param baseLog of all tokens
   */
  constructor(length: number, { strength, baseLog }: { strength: number; baseLog: number }) {
    this.#length = length;
    this.#strengthMax = strength;
    this.#baseLog = baseLog;
    this.#maxima = [this.#maxAt(0), this.#maxAt(strength)];
  }

  /** KL(steered || base) in nats, and the variance of the shift under the steered distribution. */
  at(strength: number): { kl: number; variance: number } {
    const part = strength / this.#strengthMax;
    // A sum of convex functions: no logit is above the chord of the maxima.
    const bound = this.#maxima[0] * (1 - part) + this.#maxima[1] * part;
    let moments = this.#momentsAt(strength, bound);
    let max = bound;
    if (!(moments.sum > 1e-200)) {
      max = this.#maxAt(strength);
      moments = this.#momentsAt(strength, max);
    }
    const mean = moments.first / moments.sum;
    const variance = moments.second / moments.sum - mean * mean;
    return { kl: strength * mean - (max + Math.log(moments.sum)) + this.#baseLog, variance };
  }

  #maxAt(strength: number): number {
    return kernels.maxTilted(addressOf(0), addressOf(3), this.#length, strength);
  }

  /** @param max at least as large as every logit */
  #momentsAt(strength: number, max: number): Moments {
    kernels.tiltedMoments(addressOf(0), addressOf(3), this.#length, strength, max);
    const [sum, first, second] = doubleResults() as unknown as [number, number, number];
    return { sum, first, second };
  }
}

export class KlBudget {
  readonly #budget: number;

  constructor(budget: number) {
    this.#budget = budget;
  }

  /**
   * The alpha of the largest magnitude within the budget; 0 if there is none.
   * @param base, expert, antiexpert [V]
   * @param allowed tokens of the base that may come; null for all
   */
  limit(
    base: Float32Array,
    expert: Float32Array,
    antiexpert: Float32Array,
    { alpha, allowed }: { alpha: number; allowed: Border | null },
  ): number {
    const sign = Math.sign(alpha);
    const strength = Math.abs(alpha);
    const baseLog = logSumExp(base);
    const size = base.length;
    const length = reserve(size);
    const own = place(0, base);
    const [tuned, untuned] = [place(1, expert, { size }), place(2, antiexpert, { size })];
    const { logit, id } = allowed ?? NO_BORDER;
    // A token that a model masks has no weight at any alpha.
    kernels.fillShift(addressOf(3), own, tuned, untuned, length, sign, logit, id);
    const tilted = new Tilted(length, { strength, baseLog });
    const most = tilted.at(strength);
    if (most.kl <= this.#budget) return alpha;
    return sign * solve(tilted, most, { strength, budget: this.#budget });
  }
}

/** The largest strength within the budget. @param most KL and variance at the wanted strength, which exceed it */
function solve(
  tilted: Tilted,
  most: { kl: number; variance: number },
  { strength, budget }: { strength: number; budget: number },
): number {
  const goal = budget * BUDGET_SHARE;
  const none = tilted.at(0);
  // The base nucleus alone, without any shift, may exceed the budget.
  if (none.kl > goal) return 0;
  /** The root of KL above that at strength 0, and its slope. */
  const rootAt = (at: number, { kl, variance }: { kl: number; variance: number }) => {
    const root = Math.sqrt(Math.max(0, kl - none.kl));
    return { root, slope: root > 0 ? (at * variance) / (2 * root) : Math.sqrt(variance / 2) };
  };
  const wanted = Math.sqrt(goal - none.kl);
  const end = rootAt(strength, most);
  let [low, high] = [0, strength];
  let at = within(low, high, estimate(rootAt(0, none).slope, end, { strength, wanted }));
  for (let pass = 0; pass < PASSES_MAX; pass++) {
    const here = tilted.at(at);
    // Near the goal one more step is made. The result then hardly depends on the steps before it.
    const isLast = Math.abs(here.kl - goal) <= budget * (1 - BUDGET_SHARE);
    if (here.kl > goal) high = at;
    else low = at;
    const { root, slope } = rootAt(at, here);
    at = within(low, high, at - (root - wanted) / slope);
    if (isLast) return at;
  }
  return low;
}

/** A value between two bounds; their middle if it is not between them. */
const within = (low: number, high: number, value: number) =>
  value > low && value < high ? value : (low + high) / 2;

/** The strength at which the cubic through both ends has the wanted root: as a function of the root, so that it is solved. */
function estimate(
  slope: number,
  end: { root: number; slope: number },
  { strength, wanted }: { strength: number; wanted: number },
): number {
  const t = wanted / end.root;
  const [first, last] = [end.root / slope, end.root / end.slope];
  return (
    (t ** 3 - 2 * t ** 2 + t) * first +
    (3 * t ** 2 - 2 * t ** 3) * strength +
    (t ** 3 - t ** 2) * last
  );
}
