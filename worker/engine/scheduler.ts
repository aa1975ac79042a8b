/**
 * Which generations run: as many as the cache budget allows take each step together, the others wait in order.
 * They join and leave between any two steps, and a place that one gives up is taken at once.
 */
import { Batch } from "../generate.ts";
import type { Report } from "../decode/trace.ts";
import type { PrefixCache } from "../model/prefix-cache.ts";
import { partsOf } from "../parts.ts";
import type { GenerateRequest, Row, Step } from "../row.ts";

/** A generation and what it is told. */
export interface Task {
  readonly request: GenerateRequest;
  /** Tokens that each of its caches holds at most. */
  readonly tokensMax: number;
  /** Told when the generation joins the batch. */
  readonly onStart: () => void;
  readonly onToken: (token: number, text: string, report: Report | null) => void;
  /** The last word: finished or stopped (null), or failed; and the row as it ended, null if it never ran. */
  readonly onEnd: (error: Error | null, row: Row | null) => void;
}

export class Scheduler {
  readonly #batch: Batch;
  readonly #cacheBytesMax: number;
  readonly #onStep: (ms: number) => void;
  readonly #waiting: Task[] = [];
  readonly #running = new Map<Row, Task>();
  readonly #stopping = new Set<Task>();
  #looping = false;

  /**
   * @param cacheBytesMax bytes of all KV caches together
   * @param prefixes where rows of earlier prompts are found again; its bytes are its own
   * @param onStep told how long each step took
   */
  constructor(
    cacheBytesMax: number,
    prefixes?: PrefixCache,
    onStep: (ms: number) => void = () => {},
  ) {
    this.#cacheBytesMax = cacheBytesMax;
    this.#onStep = onStep;
    this.#batch = new Batch({ speculate: true, ...(prefixes && { prefixes }) });
  }

  /** Tasks in the batch, and those that wait for room. */
  get size(): { running: number; waiting: number } {
    return { running: this.#running.size, waiting: this.#waiting.length };
  }

  submit(task: Task): void {
    const alone = cacheBytes([task]);
    if (alone > this.#cacheBytesMax) {
      const [needs, has] = [alone, this.#cacheBytesMax].map((bytes) => Math.ceil(bytes / 2 ** 20));
      task.onEnd(new Error(`the job needs ${needs} MiB of KV cache; this worker has ${has}`), null);
      return;
    }
    this.#waiting.push(task);
    if (!this.#looping) void this.#loop();
  }

  /** Ends a task before its next token. */
  stop(task: Task): void {
    // Not now: a step may be under way, and the caches must not move beneath it.
    this.#stopping.add(task);
  }

  async #loop(): Promise<void> {
    this.#looping = true;
    for (;;) {
      this.#dismiss();
      this.#admit();
      if (this.#running.size === 0) break;
      try {
        const startedMs = performance.now();
        const steps = await this.#batch.step();
        this.#onStep(performance.now() - startedMs);
        for (const step of steps) this.#tell(step);
      } catch (error) {
        this.#failAll(asError(error));
      }
    }
    this.#looping = false;
  }

  #dismiss(): void {
    for (const task of this.#stopping) {
      const at = this.#waiting.indexOf(task);
      if (at >= 0) this.#waiting.splice(at, 1);
      const [row] = [...this.#running].find(([, running]) => running === task) ?? [];
      if (row) this.#leave(row);
      if (row || at >= 0) task.onEnd(null, row ?? null);
    }
    this.#stopping.clear();
  }

  #admit(): void {
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      if (cacheBytes([...this.#running.values(), next]) > this.#cacheBytesMax) return;
      this.#waiting.shift();
      try {
        const row = this.#batch.add(next.request);
        if (!row) {
          next.onEnd(null, null);
          continue;
        }
        this.#running.set(row, next);
        next.onStart();
      } catch (error) {
        next.onEnd(asError(error), null);
      }
    }
  }

  #tell(step: Step): void {
    const task = this.#running.get(step.row)!;
    const error = "error" in step ? step.error : null;
    if (!("error" in step)) task.onToken(step.token, step.text, step.report);
    if (!("error" in step) && !step.finish) return;
    this.#leave(step.row);
    task.onEnd(error, step.row);
  }

  /** A run that throws is the models' failure, not one row's. */
  #failAll(error: Error): void {
    for (const [row, task] of this.#running) {
      this.#leave(row);
      task.onEnd(error, row);
    }
  }

  #leave(row: Row): void {
    this.#running.delete(row);
    this.#batch.remove(row);
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** Bytes that the caches of some tasks come to when all are as long as they may become. */
function cacheBytes(tasks: readonly Task[]): number {
  const voices = tasks.flatMap(({ request, tokensMax }) =>
    partsOf(request).parts.map(({ decoder }) => ({ decoder, tokensMax })),
  );
  let bytes = 0;
  for (const [decoder, group] of Map.groupBy(voices, (voice) => voice.decoder)) {
    bytes += decoder.cacheBytesFor(group.map(({ tokensMax }) => tokensMax));
  }
  return bytes;
}
