/**
 * The shift of one sequence: the weighted mean of its pairs, the gate that decides whether it is applied at a position, and the
 * guards that limit it. Allocates its arrays once.
 */
import { combineLogits } from "../decode/combine.ts";
import { Gate, type GateOptions } from "../decode/gate.ts";
import { GuardedCombiner, type GuardOptions } from "../decode/guards.ts";
import { addElectedShifts } from "../decode/sign-election.ts";
import { weightedSum } from "../decode/weighted-sum.ts";
import type { ModelLogits } from "../decode/token-analysis.ts";
import type { SetPair } from "./model-set.ts";

export interface ShiftOptions {
  readonly guards?: GuardOptions;
  readonly gate?: GateOptions;
  /** Where pairs disagree about a token, only those count that have the sign of their sum; absent to add all. */
  readonly pairConflicts?: "elect";
}

export class Shift {
  /** Sum of the pairs' weights. */
  readonly totalWeight: number;
  /** The pairs, with weights that add up to 1. */
  readonly #pairs: readonly SetPair[];
  /** [V] weighted means of several experts and of several antiexperts; null with at most one pair. */
  readonly #means: Readonly<Record<"expert" | "antiexpert", Float32Array>> | null;
  readonly #guards: GuardedCombiner | null;
  readonly #gate: Gate | null;
  readonly #hasElection: boolean;

  constructor(
    pairs: readonly SetPair[],
    { guards, gate, pairConflicts }: ShiftOptions,
    vocabSize: number,
  ) {
    this.totalWeight = pairs.reduce((sum, { weight }) => sum + weight, 0);
    this.#pairs = pairs.map((pair) => ({ ...pair, weight: pair.weight / this.totalWeight }));
    const empty = () => new Float32Array(vocabSize);
    this.#means = pairs.length > 1 ? { expert: empty(), antiexpert: empty() } : null;
    this.#guards = guards ? new GuardedCombiner(guards, vocabSize) : null;
    this.#gate = gate && pairs.length > 0 ? new Gate(gate, vocabSize) : null;
    this.#hasElection = pairConflicts === "elect" && pairs.length > 1;
  }

  /** Whether positions can have no shift, so that the pairs need not run there. */
  get isGated(): boolean {
    return this.#gate !== null;
  }

  get isGuarded(): boolean {
    return this.#guards !== null;
  }

  /** Whether the shift is applied at a position. @param base [V] logits */
  isApplied(base: Float32Array): boolean {
    return this.#gate === null || this.#gate.isOpen(base);
  }

  /**
   * The logits of a position by role.
   * @param rows [V] of each model of the set; null for models of pairs that were not run, because the shift is not applied
   */
  models(rows: readonly (Float32Array | null)[]): ModelLogits {
    const base = rows[0]!;
    const isRun = this.#pairs.length > 0 && !rows.includes(null);
    if (!isRun || !this.isApplied(base)) return { base, expert: null, antiexpert: null };
    const antiexpert = this.#mean(rows, "antiexpert");
    const expert = this.#hasElection ? this.#elected(rows, antiexpert) : this.#mean(rows, "expert");
    return { base, expert, antiexpert };
  }

  /**
   * Writes the steered logits to `out` [V].
   * @returns the alpha after the guards are applied; 0 without a shift
   */
  combine(
    out: Float32Array,
    { base, expert, antiexpert }: ModelLogits,
    scheduledAlpha: number,
  ): number {
    if (!expert || !antiexpert || scheduledAlpha === 0) {
      out.set(base);
      return 0;
    }
    // The sum of the weighted shifts is their mean times the sum of the weights.
    const strength = scheduledAlpha * this.totalWeight;
    if (this.#guards) {
      return this.#guards.combine(out, base, expert, antiexpert, strength) / this.totalWeight;
    }
    combineLogits(out, base, expert, antiexpert, strength);
    return scheduledAlpha;
  }

  /**
   * The weighted mean of the pairs' logits. A trace reports log-probabilities of the mean; those of a sum of logits would have no
   * meaning.
   */
  #mean(rows: readonly (Float32Array | null)[], role: "expert" | "antiexpert"): Float32Array {
    if (!this.#means) return rows[this.#pairs[0]![role]]!;
    const out = this.#means[role];
    weightedSum(
      out,
      this.#pairs.map((pair) => rows[pair[role]]!),
      this.#pairs.map(({ weight }) => weight),
    );
    return out;
  }

  /** With a sign election the expert of all pairs is their mean antiexpert with the elected shifts. */
  #elected(rows: readonly (Float32Array | null)[], antiexpert: Float32Array): Float32Array {
    const out = this.#means!.expert;
    out.set(antiexpert);
    addElectedShifts(out, {
      experts: this.#pairs.map((pair) => rows[pair.expert]!),
      antiexperts: this.#pairs.map((pair) => rows[pair.antiexpert]!),
      weights: this.#pairs.map(({ weight }) => weight),
    });
    return out;
  }
}
