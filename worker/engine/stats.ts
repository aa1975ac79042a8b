/**
 * Counts the engine thread's work for metrics. The counts are sent to the main thread once a second: a message for each
 * token would double the number of messages.
 */
import { emptyModelCounts } from "../engine-client/messages.ts";
import type { EngineCounts, ModelCounts, RunUsage } from "../engine-client/messages.ts";

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

  /** Starts to measure a run's time to first token. @param model id of its ensemble */
  startRun(model: string): RunRecorder {
    const startedMs = performance.now();
    let isFirst = true;
    return {
      recordToken: () => {
        const counts = this.#countsOf(model);
        counts.generatedTokens++;
        if (isFirst) counts.firstTokenMs.push(performance.now() - startedMs);
        isFirst = false;
      },
      recordEnd: ({ promptTokens, cachedTokens, drafts }) => {
        const counts = this.#countsOf(model);
        counts.promptTokens += promptTokens;
        counts.cachedTokens += cachedTokens;
        for (const source of Object.keys(drafts) as (keyof typeof drafts)[]) {
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

  #countsOf(model: string): ModelCounts {
    const { models } = this.#counts;
    const counts = models.get(model) ?? emptyModelCounts();
    models.set(model, counts);
    return counts;
  }
}

function emptyCounts(): EngineCounts {
  return { models: new Map(), stepMs: [] };
}
