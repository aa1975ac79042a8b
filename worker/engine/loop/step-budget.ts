/**
 * How much of prompts, and of texts that are scored, a step runs beside the sequences that generate.
 *
 * Prompts get time, because a token costs far more in the base than in a small model: for each prompt that waits, as much as the
 * steps take to generate tokens. So on average a long prompt at most doubles the time between the others' tokens. A run reads all
 * weights, whatever it computes, so a prompt of a usual length is not cut into pieces: it runs as a whole, and the next ones wait until
 * the steps have generated tokens for as long as it took. If several prompts wait, prefill gets more time, because otherwise the steps
 * would generate tokens of few sequences, which takes nearly as long as those of all.
 *
 * Texts that are scored take about as long as the step's tokens. While nothing is generated, a step runs large chunks.
 */
import { RunningMean } from "../decode/draft.ts";
import { CostLine } from "./cost-line.ts";

/** Tokens of a prompt that a step may prefill at once. A larger chunk is not faster. */
export const PREFILL_CHUNK_TOKENS = 128;
/** Tokens of a longer prompt that run at once at least: with fewer, a prefill is hardly faster than decoding. */
const PREFILL_TOKENS_MIN = 32;
/** Prompts beyond these get no more time. */
const WAITING_MAX = 4;
/** Scored tokens of one step while nothing is generated. The logits of all of them are in memory. */
export const SCORE_CHUNK_TOKENS = 32;
/** Logits of one model that one step scores: with a large vocabulary, measuring a token takes milliseconds. */
const SCORE_LOGITS_MAX = 2 ** 20;

/** The sequences beside which prompts are prefilled. */
export type OtherSequences =
  /** No sequence waits for its next token. */
  | "none"
  /** All of them wait for a remote base. */
  | "waiting"
  | "generating";

/** The rest of a prompt. */
export interface PromptRest {
  /** Tokens that have to be run, in the model with the most of them. */
  readonly tokens: number;
  /** Time of each in all models, in ms; 0 if it is not known. */
  readonly tokenMs: number;
  /** Whether a part of the prompt was run in an earlier step; absent for not. */
  readonly isCut?: boolean;
}

export class StepBudget {
  /** Time in which a step generates tokens, in ms. */
  readonly #decodeMs = new RunningMean(0, 0);
  /** Time that prompts may take; negative after they have taken more. */
  #promptMs = 0;
  #others: OtherSequences = "none";
  /** Prompt tokens that this step has run. */
  #prefilled = 0;
  readonly #scoring = new CostLine();
  /** Tokens of the last chunk that was scored beside others. */
  #lastScored = 0;

  startStep(others: OtherSequences): void {
    this.#others = others;
    this.#prefilled = 0;
  }

  /** How many tokens of the next prompt to run now; 0: no prompt in this step. */
  prefillTokens({ tokens, tokenMs, isCut = false }: PromptRest): number {
    const isFirst = this.#prefilled === 0;
    if (this.#others === "none") {
      const left = PREFILL_CHUNK_TOKENS - this.#prefilled;
      return isFirst ? Math.min(tokens, left) : tokens <= left ? tokens : 0;
    }
    if (this.#promptMs < 0 && (this.#others === "generating" || !isFirst)) return 0;
    // The end of a longer prompt is cut like the rest of it: as a whole it would be the longest pause.
    if (tokens <= PREFILL_CHUNK_TOKENS && !isCut) return tokens;
    const affordable = tokenMs > 0 ? this.#promptMs / tokenMs : 0;
    return Math.min(tokens, within(affordable, PREFILL_TOKENS_MIN, PREFILL_CHUNK_TOKENS));
  }

  /** @param spentMs what this step has spent on prompts */
  scoreTokens(isAlone: boolean, vocabSize: number, spentMs: number): number {
    const max = Math.min(SCORE_CHUNK_TOKENS, Math.ceil(SCORE_LOGITS_MAX / vocabSize));
    if (isAlone) return max;
    const { runMs, rowMs } = this.#scoring.line;
    const count = (this.#decodeMs.value - spentMs - runMs) / rowMs;
    // A chunk grows slowly: what a larger one costs is only known afterwards.
    return (this.#lastScored = within(
      count,
      1,
      Math.min(max, 2 * Math.max(this.#lastScored, 0.5)),
    ));
  }

  recordPrefill(ms: number, tokens: number): void {
    this.#prefilled += tokens;
    // A token of a prompt takes no longer than a step, so a longer time is a pause of the machine, which does not count.
    if (this.#others !== "none")
      this.#promptMs -= Math.min(ms, tokens * (this.#decodeMs.value || ms));
  }

  /**
   * @param tokens that were generated: a step that only waits for a remote base takes no time
   * @param waiting prompts that are not prefilled yet
   */
  recordDecode(
    ms: number,
    { tokens, waiting }: { readonly tokens: number; readonly waiting: number },
  ): void {
    if (tokens > 0) this.#decodeMs.observe(ms);
    // Time that prompts took too much is made up for while no prompt waits too, but none is saved for later ones.
    this.#promptMs =
      waiting === 0
        ? Math.min(0, this.#promptMs + ms)
        : Math.min(0, this.#promptMs) + Math.min(waiting, WAITING_MAX) * ms;
  }

  recordScore(ms: number, tokens: number): void {
    this.#scoring.record({ ms, rows: tokens });
  }
}

const within = (tokens: number, min: number, max: number) =>
  Math.min(max, Math.max(min, Math.floor(tokens)));
