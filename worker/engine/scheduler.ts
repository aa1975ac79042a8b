/**
 * Decides which generations run. As many as fit the KV cache budget run together as one batch; the others wait in the order
 * of their submission. Generations join and leave the batch between steps (continuous batching).
 *
 * A generation joins only if the KV caches of all models fit the budget even when every sequence reaches its token limit, so a
 * running generation is never paused for lack of memory. Until then models may use what is left for fewer and larger caches, which are
 * faster (decoder/grouped-cache.ts).
 */
import { AppError } from "../../shared/api/errors.ts";
import { cacheBytesNeeded, divideBudget, type JobCache } from "./cache-budget.ts";
import { Batch } from "./loop/batch.ts";
import type { PrefixCache } from "./decoder/prefix-cache.ts";
import { buildModelSet } from "./loop/model-set.ts";
import type { GenerateRequest, Sequence, Step, TokenStep } from "./loop/sequence.ts";

/** A generation, and the callbacks that report its progress. */
export interface Task {
  readonly request: GenerateRequest;
  /** Most tokens that each of its KV caches will hold: prompt and output. */
  readonly cacheTokensMax: number;
  /** Called when the generation joins the batch, or when it has nothing left to do. */
  readonly onStart: () => void;
  readonly onToken: (step: TokenStep) => void;
  /**
   * Called once, as the last callback.
   * @param error null if the generation finished or was stopped
   * @param sequence its final state; null if it never ran
   */
  readonly onEnd: (error: Error | null, sequence: Sequence | null) => void;
}

export class Scheduler {
  readonly #batch: Batch;
  readonly #cacheBytesMax: number;
  readonly #onStep: (ms: number) => void;
  readonly #waiting: Task[] = [];
  readonly #running = new Map<Sequence, Task>();
  readonly #stopping = new Set<Task>();
  /** The first waiting task, after it has not fitted beside those that run. */
  #hasNoRoom: Task | null = null;
  #looping = false;
  #awaitsBase = false;

  /**
   * @param cacheBytesMax limit of all KV caches together, in bytes
   * @param prefixCache KV cache of earlier prompts; its bytes do not count towards `cacheBytesMax`
   * @param onStep called after each step with its duration in ms
   */
  constructor(
    cacheBytesMax: number,
    prefixCache?: PrefixCache,
    onStep: (ms: number) => void = () => {},
  ) {
    this.#cacheBytesMax = cacheBytesMax;
    this.#onStep = onStep;
    this.#batch = new Batch({ speculate: true, ...(prefixCache && { prefixCache }) });
  }

  /** Tasks in the batch, and tasks that wait for room in the KV cache budget. */
  get size(): { running: number; waiting: number } {
    return { running: this.#running.size, waiting: this.#waiting.length };
  }

  /** Whether no step is taken because all tasks wait for a remote base. How long they do is bounded there. */
  get awaitsBase(): boolean {
    return this.#awaitsBase;
  }

  /** Queues a task. It fails at once if its KV caches exceed the budget even when no other task runs. */
  submit(task: Task): void {
    const bytes = bytesNeeded([task]);
    if (bytes > this.#cacheBytesMax) {
      const [needed, available] = [bytes, this.#cacheBytesMax].map((bytes) =>
        Math.ceil(bytes / 2 ** 20),
      );
      task.onEnd(
        new AppError(
          "invalid_request",
          `The job needs ${needed} MiB of KV cache; this worker has ${available} MiB`,
        ),
        null,
      );
      return;
    }
    this.#waiting.push(task);
    this.#batch.wake();
    if (!this.#looping) void this.#loop();
  }

  /** Stops a task before its next token. Does nothing if it has ended. */
  stop(task: Task): void {
    // The task is removed between two steps, because a step that runs now uses its KV caches.
    this.#stopping.add(task);
    this.#batch.wake();
  }

  async #loop(): Promise<void> {
    this.#looping = true;
    for (;;) {
      this.#removeStopped();
      this.#admitWaiting();
      if (this.#running.size === 0) break;
      // While it waited, tasks may have been stopped or submitted.
      this.#awaitsBase = true;
      const hasWaited = await this.#batch.ready();
      this.#awaitsBase = false;
      if (hasWaited) continue;
      try {
        const startedMs = performance.now();
        const steps = await this.#batch.step();
        this.#onStep(performance.now() - startedMs);
        for (const step of steps) this.#report(step);
      } catch (error) {
        this.#failAll(asError(error));
      }
    }
    this.#looping = false;
  }

  #removeStopped(): void {
    for (const task of this.#stopping) {
      const index = this.#waiting.indexOf(task);
      if (index >= 0) this.#waiting.splice(index, 1);
      const [sequence] = [...this.#running].find(([, running]) => running === task) ?? [];
      if (sequence) this.#remove(sequence);
      if (sequence || index >= 0) task.onEnd(null, sequence ?? null);
    }
    this.#stopping.clear();
  }

  #admitWaiting(): void {
    for (let next = this.#waiting[0]; next; next = this.#waiting[0]) {
      if (next === this.#hasNoRoom) return;
      if (bytesNeeded([...this.#running.values(), next]) > this.#cacheBytesMax) {
        this.#hasNoRoom = next;
        return;
      }
      this.#waiting.shift();
      divideBudget(jobCaches([...this.#running.values(), next]), this.#cacheBytesMax);
      try {
        const sequence = this.#batch.add(next.request);
        next.onStart();
        if (sequence) this.#running.set(sequence, next);
        else next.onEnd(null, null);
      } catch (error) {
        next.onEnd(asError(error), null);
      }
    }
  }

  #report(step: Step): void {
    const task = this.#running.get(step.sequence)!;
    const error = "error" in step ? step.error : null;
    if (!("error" in step)) task.onToken(step);
    if (!("error" in step) && !step.finish) return;
    this.#remove(step.sequence);
    task.onEnd(error, step.sequence);
  }

  /** For an error that is not a sequence's own: what state it leaves is not known. */
  #failAll(error: Error): void {
    for (const [sequence, task] of this.#running) {
      this.#remove(sequence);
      task.onEnd(error, sequence);
    }
  }

  #remove(sequence: Sequence): void {
    this.#running.delete(sequence);
    this.#hasNoRoom = null;
    this.#batch.remove(sequence);
    divideBudget(jobCaches([...this.#running.values()]), this.#cacheBytesMax);
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}

/** Bytes of the KV caches of these tasks when each has reached its token limit. */
const bytesNeeded = (tasks: readonly Task[]) => cacheBytesNeeded(jobCaches(tasks));

const jobCaches = (tasks: readonly Task[]): JobCache[] =>
  tasks.flatMap(({ request, cacheTokensMax }) =>
    buildModelSet(request).models.map(({ decoder }) => ({ decoder, tokens: cacheTokensMax })),
  );
