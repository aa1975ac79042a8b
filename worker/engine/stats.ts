/**
 * Counts the engine thread's work for metrics. The counts are sent to the main thread once a second: a message for each
 * token would double the number of messages.
 */
import { emptyDraftCounts } from "../engine-client/messages.ts";
import type { EngineCounts, RunUsage } from "../engine-client/messages.ts";

/** Counts the tokens of one run. */
export interface RunRecorder {
  readonly recordToken: () => void;
  readonly recordEnd: (usage: RunUsage) => void;
}

export class StatsCollector {
  #counts = emptyCounts();

  recordStep(ms: number): void {
    this.#counts.stepMs.push(ms);
  }

  /** Starts to measure a run's time to first token. */
  startRun(): RunRecorder {
    const startedMs = performance.now();
    let isFirst = true;
    return {
      recordToken: () => {
        this.#counts.generatedTokens++;
        if (isFirst) this.#counts.firstTokenMs.push(performance.now() - startedMs);
        isFirst = false;
      },
      recordEnd: ({ promptTokens, cachedTokens, drafts }) => {
        const counts = this.#counts;
        counts.promptTokens += promptTokens;
        counts.cachedTokens += cachedTokens;
        for (const source of ["expert", "lookup"] as const) {
          counts.drafts[source].drafted += drafts[source].drafted;
          counts.drafts[source].accepted += drafts[source].accepted;
        }
      },
    };
  }

  /** Returns the counts since the last call, and resets them. */
  take(): EngineCounts {
    const counts = this.#counts;
    this.#counts = emptyCounts();
    return counts;
  }
}

function emptyCounts(): EngineCounts {
  return {
    promptTokens: 0,
    cachedTokens: 0,
    generatedTokens: 0,
    drafts: emptyDraftCounts(),
    stepMs: [],
    firstTokenMs: [],
  };
}
