/** Starts BullMQ's workers with the options that all of them share. */
import { setTimeout } from "node:timers/promises";
import { Worker, type Processor, type WorkerOptions } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { tagOf } from "../../shared/redis/tags.ts";

/** Pause before a worker tries again to take a job after an error, for example while Redis is full. */
const QUEUE_RETRY_MS = 1_000;

/** The reply of BullMQ's script that takes a job if there is none. */
const NO_JOB = [null, null, 0, 0];
/** Interval at which a worker asks whether it must pause. */
const PAUSE_CHECK_MS = 1_000;

export interface QueueWorkerOptions extends Pick<WorkerOptions, "settings"> {
  readonly connection: Redis;
  readonly concurrency: number;
  /** If the lock of a BullMQ job is not renewed for this many milliseconds, another worker takes the job over. */
  readonly lockMs: number;
  readonly log: Logger;
  /** Whether no job may be taken now; asked about once a second. */
  readonly isPaused?: () => boolean;
}

/**
 * Starts a worker that takes the jobs of a BullMQ queue at once. The caller closes it.
 * @param queue name of the queue
 * @param process runs a job; if it throws, BullMQ tries the job again as its options say
 */
export function startQueueWorker<Data>(
  queue: string,
  process: Processor<Data>,
  { connection, concurrency, lockMs, log, isPaused, settings }: QueueWorkerOptions,
): Worker<Data> {
  const worker = new Worker<Data>(queue, process, {
    connection,
    prefix: tagOf(connection),
    concurrency,
    lockDuration: lockMs,
    stalledInterval: Math.ceil(lockMs / 3),
    runRetryDelay: QUEUE_RETRY_MS,
    // Nothing is dropped because workers were lost.
    maxStalledCount: Number.MAX_SAFE_INTEGER,
    ...(settings && { settings }),
  });
  worker.on("error", (error) => log.warn({ queue, reason: error.message }, "Queue error"));
  pauseAfterErrors(worker);
  if (isPaused) pauseWhile(worker, isPaused);
  return worker;
}

/**
 * BullMQ waits for runRetryDelay after a lost connection only. After an error reply, for example while Redis is full, it asks
 * again at once: thousands of commands a second.
 */
function pauseAfterErrors(worker: Worker): void {
  const { backend } = worker;
  const moveToActive = backend.moveToActive.bind(backend);
  backend.moveToActive = async (...args) => {
    // A worker that waits for a job when it is paused would take that one.
    if (worker.isPaused()) return NO_JOB;
    try {
      return await moveToActive(...args);
    } catch (error) {
      await setTimeout(QUEUE_RETRY_MS);
      throw error;
    }
  };
}

function pauseWhile<Data>(worker: Worker<Data>, isPaused: () => boolean): void {
  const apply = () => {
    if (worker.closing || worker.isPaused() === isPaused()) return;
    // Not waiting for active jobs. An error is reported as an event of the worker.
    (isPaused() ? worker.pause(true) : worker.resume()).catch(() => {});
  };
  apply();
  const timer = setInterval(apply, PAUSE_CHECK_MS);
  worker.on("closing", () => clearInterval(timer));
}
