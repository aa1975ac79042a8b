/**
 * Samples the next token of one sequence from its steered logits. The stages, in order: constraint, penalties and bias
 * (#adjust), temperature, truncation, draw (#draw). At temperature 0 the largest logit wins (greedy); otherwise a
 * Gumbel-max draw, whose noise depends only on the seed and the position.
 *
 * To add a sampling stage: add a field to Sampling and its code to #adjust (before the temperature) or #draw (after it). A
 * state that depends on accepted tokens must be undone by `rewind`. Then add the field to the request
 * (shared/api/generation.ts, converted in shared/submission/validate.ts) and to Generation (shared/jobs/record.ts).
 */
import { NO_BORDER } from "./border.ts";
import type { PartialDraw } from "./certificate.ts";
import { argmax, extremesOf, firstOf } from "./exp.ts";
import { GumbelNoise } from "./noise.ts";
import { addressOf, kernels, read, reserve } from "./simd/vectors.ts";
import { truncatePlaced, type Truncation } from "./truncate.ts";

export interface Sampling extends Truncation {
  /** 0 is greedy. */
  readonly temperature: number;
  /** Integer, 0 to 2^53 - 1. */
  readonly seed: number;
  /** Divides positive and multiplies negative logits of tokens in the prompt or output (arXiv 1909.05858); 1: off. */
  readonly repetitionPenalty: number;
  /** Subtracted from the logit of every token in the output. */
  readonly presencePenalty: number;
  /** Subtracted from a token's logit once for each occurrence in the output. */
  readonly frequencyPenalty: number;
  /** [token id, number that is added to its logit] */
  readonly logitBias: readonly (readonly [number, number])[];
}

/** Decides which tokens the output allows next, for example by a grammar. */
export interface Constraint {
  /** Whether the output is complete: only an end token is allowed. */
  readonly isComplete: boolean;
  /** Sets the logits [V] of forbidden tokens to -Infinity. @throws if no token is allowed */
  mask(logits: Float32Array): void;
  /** Adds a token to the output. @throws if the token is forbidden */
  accept(token: number): void;
  /** Removes the last accepted tokens. */
  rewind(count: number): void;
}

export class Sampler {
  readonly constraint: Constraint | null;
  readonly #sampling: Sampling;
  readonly #noise: GumbelNoise;
  readonly #promptIds: ReadonlySet<number>;
  /** The output so far: its tokens in order, and how often each occurs. */
  readonly #accepted: number[] = [];
  readonly #counts = new Map<number, number>();
  readonly #unusedIds: readonly number[];
  /** Tokens whose logit the repetition penalty has divided at the latest `#adjust`. */
  readonly #divided = new Set<number>();

  /**
   * @param promptIds tokens that the repetition penalty applies to, besides those of the output
   * @param unusedIds ids in the vocabulary that no token uses; they are never sampled
   * @param constraint in its state before the first token
   */
  constructor(
    sampling: Sampling,
    promptIds: readonly number[],
    unusedIds: readonly number[] = [],
    constraint: Constraint | null = null,
  ) {
    this.constraint = constraint;
    this.#sampling = sampling;
    this.#noise = new GumbelNoise(sampling.seed);
    // A long prompt takes milliseconds, which most requests need not pay.
    this.#promptIds = new Set(sampling.repetitionPenalty === 1 ? [] : promptIds);
    this.#unusedIds = unusedIds;
  }

  /**
   * Samples the next token. It does not become part of the output: see `accept`.
   * @param logits [V], overwritten with the logits after all stages, up to an additive constant
   * @throws Error if no logit is finite
   */
  sample(logits: Float32Array): number {
    const { temperature } = this.#sampling;
    this.#adjust(logits);
    const token = temperature === 0 ? argmax(logits) : this.#draw(logits, temperature);
    if (!Number.isFinite(logits[token]))
      throw new Error("No token can be sampled: no logit is finite");
    return token;
  }

  /**
   * The stages of `sample` at the current position, for a proof that its token is right (certificate.ts).
   * @param upper [V] logits of seen tokens and bounds of the others, overwritten with those after the stages before the
   *   temperature
   */
  describe(
    upper: Float32Array,
  ): Omit<PartialDraw, "token" | "isSeen" | "seenIds" | "unseenMax" | "unseenAtBound"> {
    const { temperature, repetitionPenalty, logitBias } = this.#sampling;
    this.#adjust(upper);
    this.#noise.seek(this.#accepted.length);
    return {
      upper,
      biasMax: logitBias.reduce((most, [, bias]) => Math.max(most, bias), 0),
      penalty: repetitionPenalty,
      isDivided: (id) => this.#divided.has(id),
      temperature,
      truncation: this.#sampling,
      noise: (id) => this.#noise.at(id),
      noiseAbove: (id, floor) => this.#noise.above(id, floor),
    };
  }

  /** Whether a constant that is added to all logits changes the draw. */
  get isMultiplying(): boolean {
    return this.#sampling.repetitionPenalty !== 1;
  }

  /** Adds a token to the output: a sampled one, a draft, or one of an earlier attempt. */
  accept(token: number): void {
    this.constraint?.accept(token);
    this.#accepted.push(token);
    this.#counts.set(token, (this.#counts.get(token) ?? 0) + 1);
  }

  /** Removes the last accepted tokens, which were drafts. */
  rewind(count: number): void {
    this.constraint?.rewind(count);
    for (const token of this.#accepted.splice(this.#accepted.length - count)) {
      const left = this.#counts.get(token)! - 1;
      if (left === 0) this.#counts.delete(token);
      else this.#counts.set(token, left);
    }
  }

  /** The stages before the temperature: constraint, penalties, bias, unused ids. */
  #adjust(logits: Float32Array): void {
    this.constraint?.mask(logits);
    const { repetitionPenalty, presencePenalty, frequencyPenalty, logitBias } = this.#sampling;
    if (repetitionPenalty !== 1) {
      this.#divided.clear();
      const penalize = (id: number) => {
        const logit = logits[id]!;
        if (logit > 0) this.#divided.add(id);
        logits[id] = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      };
      for (const id of this.#promptIds) penalize(id);
      for (const id of this.#counts.keys()) if (!this.#promptIds.has(id)) penalize(id);
    }
    if (presencePenalty !== 0 || frequencyPenalty !== 0) {
      for (const [id, count] of this.#counts) {
        logits[id] = logits[id]! - presencePenalty - frequencyPenalty * count;
      }
    }
    for (const [id, bias] of logitBias) logits[id] = logits[id]! + bias;
    for (const id of this.#unusedIds) logits[id] = Number.NEGATIVE_INFINITY;
  }

  /** The stages from the temperature on: temperature, truncation, Gumbel-max draw. */
  #draw(logits: Float32Array, temperature: number): number {
    const noise = this.#noise;
    noise.seek(this.#accepted.length);
    const { min, max } = extremesOf(logits);
    let best = firstOf(logits, max);
    // Relative to the largest logit: a temperature near 0 then gives 0 and -Infinity instead of ±Infinity for all.
    const scaledOf = (logit: number) => Math.fround((logit - max) / temperature);
    const length = reserve(logits.length);
    kernels.scale(addressOf(0), length, max, temperature);
    read(logits, 0);
    const extremes = { min: scaledOf(min), max: scaledOf(max) };
    // Every truncation keeps the largest logit.
    const { logit: minLogit, id: lastId } =
      truncatePlaced(logits, extremes, this.#sampling) ?? NO_BORDER;
    let bestScore = logits[best]! + noise.at(best);
    // Most tokens are so unlikely that their noise certainly makes none of them the best: the kernel skips their logarithms.
    const nextFrom = (from: number) =>
      from < logits.length
        ? kernels.findContender(addressOf(0), from, length, minLogit, bestScore, noise.key)
        : from;
    for (let id = nextFrom(0); id < logits.length; id = nextFrom(id + 1)) {
      const logit = logits[id]!;
      if (logit === minLogit && id > lastId) continue;
      const score = logit + noise.above(id, bestScore - logit);
      if (score > bestScore || (score === bestScore && id < best)) {
        best = id;
        bestScore = score;
      }
    }
    return best;
  }
}
