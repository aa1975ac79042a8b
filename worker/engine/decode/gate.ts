/**
 * The gate of a shift: it is applied only where the base is unsure of the next token (arXiv 2602.21215 finds that steering a part
 * of the tokens is enough). A gate depends only on the base's logits of one position, so it works the same with drafts and after a
 * takeover, and where it is closed the experts and antiexperts need not run.
 */
import { expNormalize, maxOf } from "./exp.ts";

/** The gate is open where all conditions hold. */
export interface GateOptions {
  /** Entropy of the base's distribution at temperature 1, in nats: at least this. */
  readonly minEntropy?: number;
  /** Difference between the base's two largest logits, in nats: at most this. */
  readonly maxMargin?: number;
}

export class Gate {
  readonly #options: GateOptions;
  /** [V] exp(logit - max). */
  readonly #weights: Float32Array;

  constructor(options: GateOptions, vocabSize: number) {
    this.#options = options;
    this.#weights = new Float32Array(vocabSize);
  }

  /** @param base [V] */
  isOpen(base: Float32Array): boolean {
    const { minEntropy = 0, maxMargin = Infinity } = this.#options;
    if (maxMargin < Infinity && margin(base) > maxMargin) return false;
    return minEntropy === 0 || this.#entropy(base) >= minEntropy;
  }

  #entropy(logits: Float32Array): number {
    const weights = this.#weights;
    const max = maxOf(logits);
    const sum = expNormalize(weights, logits, max);
    let weighted = 0;
    for (let i = 0; i < weights.length; i++) {
      // 0 * -Infinity would be NaN.
      if (weights[i]! > 0) weighted += weights[i]! * (logits[i]! - max);
    }
    return Math.log(sum) - weighted / sum;
  }
}

function margin(logits: Float32Array): number {
  let first = Number.NEGATIVE_INFINITY;
  let second = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i]!;
    if (logit > first) [first, second] = [logit, first];
    else if (logit > second) second = logit;
  }
  return first - second;
}
