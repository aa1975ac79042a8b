/**
 * How many tokens of prompts, and of texts that are scored, one step runs beside the sequences that generate: both together take
 * about as long as these, so that a long prompt or text at most doubles the time between their tokens. While nothing is generated, a
 * step runs large chunks.
 */
import { RunningMean } from "../decode/draft.ts";
import { CostLine } from "./cost-line.ts";

/** Prompt tokens that one step may prefill while no sequence waits for its next token. A larger chunk is not faster. */
const PREFILL_CHUNK_TOKENS = 128;
/** Prompt tokens that a step prefills at least: with fewer, a prefill is hardly faster than decoding. */
const PREFILL_TOKENS_MIN = 16;
/** Scored tokens of one step while nothing is generated. The logits of all of them are in memory. */
export const SCORE_CHUNK_TOKENS = 32;
/** Logits of one model that one step scores: with a large vocabulary, measuring a token takes milliseconds. */
const SCORE_LOGITS_MAX = 2 ** 20;

export class StepBudget {
  /** Time in which a step generates tokens, in ms. */
  readonly #decodeMs = new RunningMean(0, 0);
  readonly #prefillTokenMs = new RunningMean(0, 0);
  readonly #scoring = new CostLine();
  /** Tokens of the last chunk that was scored beside others. */
  #lastScored = 0;

  /** @param isAlone whether no sequence waits for its next token */
  prefillTokens(isAlone: boolean): number {
    const [tokenMs, decodeMs] = [this.#prefillTokenMs.value, this.#decodeMs.value];
    if (isAlone || tokenMs === 0 || decodeMs === 0) return PREFILL_CHUNK_TOKENS;
    return within(decodeMs / tokenMs, PREFILL_TOKENS_MIN, PREFILL_CHUNK_TOKENS);
  }

  /** @param spentMs what this step has spent on prompts */
  scoreTokens(isAlone: boolean, vocabSize: number, spentMs: number): number {
    const most = Math.min(SCORE_CHUNK_TOKENS, Math.ceil(SCORE_LOGITS_MAX / vocabSize));
    if (isAlone) return most;
    const { runMs, rowMs } = this.#scoring.line;
    const count = (this.#decodeMs.value - spentMs - runMs) / rowMs;
    // A chunk grows slowly: what a larger one costs is only known afterwards.
    return (this.#lastScored = within(
      count,
      1,
      Math.min(most, 2 * Math.max(this.#lastScored, 0.5)),
    ));
  }

  recordPrefill(ms: number, tokens: number): void {
    if (tokens > 0) this.#prefillTokenMs.observe(ms / tokens);
  }

  recordDecode(ms: number): void {
    this.#decodeMs.observe(ms);
  }

  recordScore(ms: number, tokens: number): void {
    this.#scoring.record({ ms, rows: tokens });
  }
}

const within = (tokens: number, min: number, max: number) =>
  Math.min(max, Math.max(min, Math.floor(tokens)));
