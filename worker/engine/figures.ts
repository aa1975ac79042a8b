/**
 * What the engine tells of its work. It counts in plain numbers and hands them to the main thread once a second: a message
 * per token would be one more for each that carries the token itself.
 */
import { noDrafts, type DraftCounts } from "../decode/draft.ts";
import type { Used } from "./messages.ts";

/** Since the last time. */
export interface Counts {
  promptTokens: number;
  cachedTokens: number;
  generatedTokens: number;
  readonly drafts: DraftCounts;
  /** How long each step of the batch took. */
  readonly stepMs: number[];
  /** How long each run waited for its first token, from when the engine got it. */
  readonly firstTokenMs: number[];
}

export interface Figures extends Readonly<Counts> {
  /** As it is now. */
  readonly running: number;
  readonly waiting: number;
  readonly cacheBytes: number;
  readonly prefixBytes: number;
}

/** One run, as it is counted. */
export interface RunCounter {
  readonly token: () => void;
  readonly end: (used: Used) => void;
}

export class Counter {
  #counts = nothing();

  step(ms: number): void {
    this.#counts.stepMs.push(ms);
  }

  /** Starts the clock of a run. */
  run(): RunCounter {
    const startedMs = performance.now();
    let isFirst = true;
    return {
      token: () => {
        this.#counts.generatedTokens++;
        if (isFirst) this.#counts.firstTokenMs.push(performance.now() - startedMs);
        isFirst = false;
      },
      end: ({ promptTokens, cachedTokens, drafts }) => {
        const counts = this.#counts;
        counts.promptTokens += promptTokens;
        counts.cachedTokens += cachedTokens;
        for (const drafter of ["expert", "lookup"] as const) {
          counts.drafts[drafter].drafted += drafts[drafter].drafted;
          counts.drafts[drafter].accepted += drafts[drafter].accepted;
        }
      },
    };
  }

  /** Gives away what was counted, and starts anew. */
  take(): Counts {
    const counts = this.#counts;
    this.#counts = nothing();
    return counts;
  }
}

function nothing(): Counts {
  return {
    promptTokens: 0,
    cachedTokens: 0,
    generatedTokens: 0,
    drafts: noDrafts(),
    stepMs: [],
    firstTokenMs: [],
  };
}
