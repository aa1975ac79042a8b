/** Measures what the engine has done within the last minute, for the heartbeat: the operator sees it of each worker. */
import { totalDrafts, type EngineStats } from "../engine-client/messages.ts";
import type { EngineLoad } from "../../shared/workers/worker-report.ts";

/** The measurement covers this time. */
const WINDOW_MS = 60_000;

interface Limits {
  readonly cacheBytesMax: number;
  readonly prefixBytesMax: number;
}

/** Counts of an ensemble in one report of the engine, about a second long. */
interface Counts {
  readonly atMs: number;
  readonly generated: number;
  readonly prompt: number;
  readonly cached: number;
  readonly drafted: number;
  readonly accepted: number;
}

export class EngineMeter {
  readonly #limits: Limits;
  readonly #nowMs: () => number;
  readonly #startedMs: number;
  readonly #counts: Counts[] = [];
  #memory = { waiting: 0, cacheBytes: 0, prefixBytes: 0 };

  /** @param nowMs a clock that never goes back */
  constructor(limits: Limits, nowMs: () => number = () => performance.now()) {
    this.#limits = limits;
    this.#nowMs = nowMs;
    this.#startedMs = nowMs();
  }

  /** Adds the engine's counts since its last report. */
  add({ models, waiting, cacheBytes, prefixBytes }: EngineStats): void {
    this.#memory = { waiting, cacheBytes, prefixBytes };
    this.#dropOld();
    const atMs = this.#nowMs();
    for (const { generatedTokens, promptTokens, cachedTokens, drafts } of models.values()) {
      this.#counts.push({
        atMs,
        generated: generatedTokens,
        prompt: promptTokens,
        cached: cachedTokens,
        ...totalDrafts(drafts),
      });
    }
  }

  report(): EngineLoad {
    this.#dropOld();
    const sum = (name: Exclude<keyof Counts, "atMs">) =>
      this.#counts.reduce((total, counts) => total + counts[name], 0);
    const shareOf = (part: number, all: number) => (all === 0 ? null : part / all);
    const seconds = Math.min(WINDOW_MS, Math.max(1_000, this.#nowMs() - this.#startedMs)) / 1000;
    return {
      tokensPerSecond: sum("generated") / seconds,
      acceptance: shareOf(sum("accepted"), sum("drafted")),
      cachedShare: shareOf(sum("cached"), sum("prompt")),
      ...this.#memory,
      ...this.#limits,
    };
  }

  #dropOld(): void {
    const sinceMs = this.#nowMs() - WINDOW_MS;
    while ((this.#counts[0]?.atMs ?? Infinity) < sinceMs) this.#counts.shift();
  }
}
