/**
 * The present speed of a remote base, measured on its calls and shared by all its sequences.
 *
 * A call takes a constant (network, one step of the server) and a part for each token that the server computes at the same time,
 * also those of other calls. So more rows in a call make the calls of all sequences slower, and a sequence that looked only at
 * its own calls would draft too much on a busy server.
 *
 * Where each draft is a prompt of its own, the server computes what the prompt has beyond its cache, which is seldom one token: the
 * drafts before it, and what was accepted since a call used that cache. Servers say how many tokens it was.
 */
import { RunningMean } from "../decode/draft.ts";
import { CallCost, clipped, isAmount } from "./call-cost.ts";
import { DraftStatistics } from "./draft-statistics.ts";

/** Time of a token in a long prompt, as a share of that of a single one, before a prompt was measured. */
const FILL_SHARE = 0.25;
/** The share of a call without tokens that a stream's step is taken to be before one was measured. */
const STEP_SHARE = 0.6;
/** The share of a step that a call after a stream which was left waits, before it was measured. */
const LEFT_SHARE = 0.5;
/** Drafts that the expert makes beside the call of a sequence that runs alone, and beside those of several together. */
const AHEAD = { alone: 8, together: 4 };
/** So many calls name no slot after one whose slot another worker had taken. */
const UNNAMED_CALLS = 1_000;
/** After so many calls without a stream the time of its steps is no longer known. */
const STEPS_KEPT = 40;

export class BaseLoad {
  /** Sequences that generate with the base. */
  sequences = 0;
  /** False once the server has refused a stream with a lead, and served the same one without. */
  canLead = true;
  /** The sequence that has used each slot of the server last, as far as it is known. */
  readonly slotUsers = new Map<number, object>();
  /** Of all its sequences: a new one begins with them. */
  readonly drafts = new DraftStatistics();
  readonly #calls = new CallCost();
  /** Milliseconds of each token of a prompt; 0 if none was measured. */
  readonly #fillMs = new RunningMean(0, 0);
  #tokensNow = 0;
  /** Tokens that the server computes for a row beside its own, for each draft of the call. */
  readonly #extraTokens = new RunningMean(0, 0);
  /** Time between two tokens of a stream, and the tokens that such a step had with those of other calls; null if it is not known. */
  #steps: { readonly ms: RunningMean; readonly tokens: RunningMean } | null = null;
  #callsSinceStep = 0;
  /** Null if it is not known. */
  #leftMs: RunningMean | null = null;
  #unnamedCalls = 0;

  /**
   * Most drafts that the expert makes beside a call. The sequences share its runs, so with more of them each has fewer, and with more
   * than four none.
   */
  get aheadMax(): number {
    const { sequences } = this;
    return sequences > 1 ? Math.floor(AHEAD.together / sequences) : AHEAD.alone;
  }

  /**
   * Whether calls may name slots. Workers do not know each other's: two that name the same one take turns in pushing out its cache, and wait
   * for each other. A call that names none gets the free slot that has most of its prompt in its cache, whoever calls.
   */
  get namesSlots(): boolean {
    return this.#unnamedCalls === 0;
  }

  /** A slot that a call named did not have its context in its cache. */
  slotWasTaken(): void {
    this.#unnamedCalls = UNNAMED_CALLS;
  }

  /** A call begins. Returns the rows under way, those of the call included: a token for each. */
  begin(rows: number): number {
    if (this.#unnamedCalls > 0) this.#unnamedCalls--;
    this.#tokensNow += rows;
    return this.#tokensNow;
  }

  end(rows: number): void {
    this.#tokensNow -= rows;
  }

  /**
   * @param atOnce as `begin` has returned it
   * @param computed tokens of each row; null if the server does not say
   */
  recordCall(ms: number, atOnce: number, computed: readonly number[] | null): void {
    if (++this.#callsSinceStep > STEPS_KEPT) this.#steps = null;
    const rows = computed?.every(isAmount) ? computed : [];
    const extra = rows.reduce((sum, count) => sum + Math.max(0, count - 1), 0);
    const drafts = rows.length - 1;
    if (drafts > 0) this.#extraTokens.observe(extra / rows.length / drafts);
    this.#calls.record(ms, atOnce + extra);
  }

  /**
   * A call for one row after a stream that was left: the server ends that stream first. What is more than the time of a call counts as
   * this wait, and the rest as the call.
   * @param atOnce as `begin` has returned it
   */
  recordLate(ms: number, atOnce: number): void {
    if (this.fixedMs === 0) return this.recordCall(ms, atOnce, null);
    const waitMs = Math.max(0, ms - this.#calls.expectedMs(atOnce));
    const countedMs = clipped(waitMs, this.leftMs);
    this.#leftMs ??= new RunningMean(0, 0);
    this.#leftMs.observe(countedMs);
    this.recordCall(Math.max(0, ms - this.leftMs), atOnce, null);
  }

  /** A call whose prompts were not in the server's cache. */
  recordFill(ms: number, tokens: number): void {
    if (isAmount(tokens) && tokens > 0)
      this.#fillMs.observe(Math.max(0, ms - this.fixedMs) / tokens);
  }

  recordStep(ms: number): void {
    this.#callsSinceStep = 0;
    this.#steps ??= { ms: new RunningMean(ms, 0), tokens: new RunningMean(0, 0) };
    this.#steps.ms.observe(clipped(ms, this.#steps.ms.value));
    this.#steps.tokens.observe(this.#tokensNow);
  }

  /** Milliseconds of a call without tokens. */
  get fixedMs(): number {
    return this.#calls.fixedMs;
  }

  /** Milliseconds of each token of a call. It takes as long as one of a long prompt at least, which is known sooner. */
  get tokenMs(): number {
    return Math.max(this.#calls.tokenMs, this.#fillMs.value);
  }

  /** Milliseconds that a call after a stream which was left takes longer than others. */
  get leftMs(): number {
    return this.#leftMs?.value ?? LEFT_SHARE * (this.stepMs + this.tokenMs);
  }

  /** Milliseconds of each token of a prompt. */
  get fillTokenMs(): number {
    return this.#fillMs.value || FILL_SHARE * this.tokenMs;
  }

  /** Tokens that a call with so many drafts computes. */
  tokensFor(drafts: number): number {
    return (drafts + 1) * (1 + this.#extraTokens.value * drafts);
  }

  /** Whether the time of a stream's step was measured lately. */
  get knowsSteps(): boolean {
    return this.#steps !== null;
  }

  /** Milliseconds between two rows of a stream. */
  get rowMs(): number {
    return this.#steps?.ms.value ?? this.stepMs + this.tokenMs;
  }

  /** Milliseconds of a stream's step without its rows. A call has a step too, so it takes no longer than that. */
  get stepMs(): number {
    const { fixedMs, tokenMs } = this;
    if (!this.#steps) return STEP_SHARE * fixedMs;
    const { ms, tokens } = this.#steps;
    return Math.min(fixedMs, Math.max(0, ms.value - tokenMs * tokens.value));
  }
}
