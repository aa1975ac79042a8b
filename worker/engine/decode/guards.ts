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
import { maskOutside } from "./border.ts";
import { combineLogits } from "./combine.ts";
import { expNormalize, maxOf } from "./exp.ts";
import { KlBudget } from "./kl-budget.ts";
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

/** Combines logits within guards. Allocates its scratch arrays once. */
export class GuardedCombiner {
  readonly #guards: GuardOptions;
  /** [V] exp(logit - max), of two distributions. */
  readonly #weights: Float32Array;
  readonly #otherWeights: Float32Array;
  readonly #klBudget: KlBudget | null;

  constructor(guards: GuardOptions, vocabSize: number) {
    this.#guards = guards;
    this.#weights = new Float32Array(vocabSize);
    this.#otherWeights = new Float32Array(vocabSize);
    const { klBudget } = guards;
    this.#klBudget = klBudget === undefined ? null : new KlBudget(klBudget);
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
    const { baseNucleus = 1, fallback = 0 } = this.#guards;
    if (alpha !== 0 && !(fallback > 0 && this.#agree(expert, antiexpert, fallback))) {
      const allowed = baseNucleus < 1 ? nucleus(base, baseNucleus) : null;
      const limited = this.#klBudget?.limit(base, expert, antiexpert, { alpha, allowed }) ?? alpha;
      if (limited !== 0) {
        combineLogits(out, base, expert, antiexpert, limited);
        if (allowed) maskOutside(out, base, allowed);
        return limited;
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
