/**
 * From steered logits to the next token of one sequence: penalties and bias, temperature, truncation, draw, in this
 * order. Greedy at temperature 0, else Gumbel-max with noise that the seed and the position alone decide.
 */
import { GUMBEL_MAX, GumbelNoise } from "./noise.ts";
import { truncate, type Truncation } from "./truncate.ts";

export interface Sampling extends Truncation {
  /** 0 is greedy. */
  readonly temperature: number;
  /** Integer, 0 to 2^53 - 1. */
  readonly seed: number;
  /** Divides positive and multiplies negative logits of tokens in prompt or output (arXiv 1909.05858); 1 is neutral. */
  readonly repetitionPenalty: number;
  /** Subtracted from the logit of every token in the output. */
  readonly presencePenalty: number;
  /** Subtracted once for each time that the token is in the output. */
  readonly frequencyPenalty: number;
  /** [token id, number added to its logit] */
  readonly logitBias: readonly (readonly [number, number])[];
}

/** What the output must be, as far as it decides which tokens may come. */
export interface Constraint {
  /** Whether the output is finished: nothing may come but its end. */
  readonly isComplete: boolean;
  /** Sets the logits [V] of tokens that may not come here to -Infinity. */
  mask(logits: Float32Array): void;
  accept(token: number): void;
  /** Takes back the last accepted tokens. */
  rewind(count: number): void;
}

export class Sampler {
  readonly constraint: Constraint | null;
  readonly #sampling: Sampling;
  readonly #noise: GumbelNoise;
  readonly #promptIds: ReadonlySet<number>;
  /** Accepted tokens in order, and how often each is among them. */
  readonly #accepted: number[] = [];
  readonly #counts = new Map<number, number>();
  readonly #bannedIds: readonly number[];
  /**
   * @param promptIds what the repetition penalty counts as seen
   * @param bannedIds ids inside the vocabulary that no token has: never drawn
   * @param constraint at the beginning of the output
   */
  constructor(
    sampling: Sampling,
    promptIds: readonly number[],
    bannedIds: readonly number[] = [],
    constraint: Constraint | null = null,
  ) {
    this.constraint = constraint;
    this.#sampling = sampling;
    this.#noise = new GumbelNoise(sampling.seed);
    this.#promptIds = new Set(promptIds);
    this.#bannedIds = bannedIds;
  }

  /** Picks the next token. Overwrites `logits` [V] with what it drew from, up to a constant. */
  pick(logits: Float32Array): number {
    const { temperature } = this.#sampling;
    this.#adjust(logits);
    const token = temperature === 0 ? argmax(logits) : this.#draw(logits, temperature);
    if (!Number.isFinite(logits[token])) throw new Error("no finite logit to choose from");
    return token;
  }

  /** Tells which token was taken at this position (after `pick`, or from an earlier attempt's log). */
  accept(token: number): void {
    this.constraint?.accept(token);
    this.#accepted.push(token);
    this.#counts.set(token, (this.#counts.get(token) ?? 0) + 1);
  }

  /** Takes back the last accepted tokens: they were drafts. */
  rewind(count: number): void {
    this.constraint?.rewind(count);
    for (const token of this.#accepted.splice(this.#accepted.length - count)) {
      const left = this.#counts.get(token)! - 1;
      if (left === 0) this.#counts.delete(token);
      else this.#counts.set(token, left);
    }
  }

  #adjust(logits: Float32Array): void {
    this.constraint?.mask(logits);
    const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = this.#sampling;
    if (repetitionPenalty !== 1) {
      const repeat = (id: number) => {
        const logit = logits[id]!;
        logits[id] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      };
      for (const id of this.#promptIds) repeat(id);
      for (const id of this.#counts.keys()) if (!this.#promptIds.has(id)) repeat(id);
    }
    if (presencePenalty !== 0 || frequencyPenalty !== 0) {
      for (const [id, count] of this.#counts) {
        logits[id] = logits[id]! - presencePenalty - frequencyPenalty * count;
      }
    }
    for (const [id, bias] of logitBias) logits[id] = logits[id]! + bias;
    for (const id of this.#bannedIds) logits[id] = Number.NEGATIVE_INFINITY;
  }

  #draw(logits: Float32Array, temperature: number): number {
    const noise = this.#noise;
    noise.seek(this.#accepted.length);
    // From the largest down: a temperature near 0 gives it 0 and the others -Infinity, and not all of them ±Infinity.
    const max = logits[argmax(logits)]!;
    for (let i = 0; i < logits.length; i++) logits[i] = (logits[i]! - max) / temperature;
    const kept = truncate(logits, this.#sampling);
    let best = kept?.[0] ?? argmax(logits);
    let bestScore = logits[best]! + noise.at(best);
    const consider = (id: number) => {
      // Most tokens are so unlikely that no noise could lift them: they need no logarithms.
      if (logits[id]! + GUMBEL_MAX < bestScore) return;
      const score = logits[id]! + noise.above(id, bestScore - logits[id]!);
      if (score > bestScore || (score === bestScore && id < best)) {
        best = id;
        bestScore = score;
      }
    };
    if (kept) for (const id of kept) consider(id);
    else for (let id = 0; id < logits.length; id++) consider(id);
    return best;
  }
}

/** Index of the largest value, the first of equals; NaN is never the largest. */
export function argmax(values: Float32Array): number {
  let best = 0;
  let max = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) {
    if (values[i]! > max) {
      max = values[i]!;
      best = i;
    }
  }
  return best;
}
