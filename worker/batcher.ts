/**
 * Takes batches from their queue, a step at a time: between its steps a batch waits there, so that many of them share a
 * worker, and a worker that dies or goes leaves them to the others.
 */
import { DelayedError, Queue, Worker, type Job as QueueJob } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { batchQueueJob } from "../shared/batch-queue.ts";
import { BatchStore } from "../shared/batch-store.ts";
import type { Bucket } from "../shared/bucket.ts";
import { FileStore } from "../shared/file-store.ts";
import { KeyRegistry } from "../shared/key-registry.ts";
import { readModel } from "../shared/models.ts";
import {
  BATCH_QUEUE,
  GENERATION_QUEUE,
  OPEN_BATCHES_KEY,
  QUEUE_PREFIX,
} from "../shared/redis-keys.ts";
import type { AddressRanges } from "../shared/webhook-url.ts";
import { BatchFiles } from "./batch-files.ts";
import { RETRY_MS } from "./redis.ts";
import { stepBatch, type RunBatchDeps } from "./run-batch.ts";

/** Steps at once, per worker. */
const CONCURRENCY = 4;
/** Until a batch's next step: results are seen, and jobs follow them, so often. */
const STEP_MS = 250;
/** How often batches are looked for that are open and in no queue: whoever made them died before queueing them. */
const RECOVERY_MS = 60_000;

export interface BatcherDeps extends Pick<RunBatchDeps, "store" | "announcer" | "openLinesMax"> {
  readonly connection: Redis;
  readonly bucket: Bucket | null;
  /** Where webhooks may go although it is not public. */
  readonly webhookAllow: AddressRanges;
  readonly log: Logger;
  /** Milliseconds after which a silent worker's step is taken over. */
  readonly lockMs: number;
}

export interface Batcher {
  waitUntilReady(): Promise<unknown>;
  close(): Promise<void>;
}

export function startBatcher(given: BatcherDeps): Batcher {
  const { connection, lockMs, log } = given;
  const deps = runDeps(given);
  const worker = new Worker<{ id: string }>(
    BATCH_QUEUE,
    (queueJob, token) => step(deps, log, queueJob, token),
    {
      connection,
      prefix: QUEUE_PREFIX,
      concurrency: CONCURRENCY,
      lockDuration: lockMs,
      stalledInterval: Math.ceil(lockMs / 3),
      runRetryDelay: RETRY_MS,
      // Losing its worker is no fault of a batch.
      maxStalledCount: Number.MAX_SAFE_INTEGER,
    },
  );
  worker.on("error", (error) => log.warn({ reason: error.message }, "batch queue"));
  const queue = new Queue<{ id: string }>(BATCH_QUEUE, { connection, prefix: QUEUE_PREFIX });
  queue.on("error", (error) => log.warn({ reason: error.message }, "batch queue"));
  const recover = () => {
    requeue(connection, queue).catch((error: unknown) => log.warn({ err: error }, "batches"));
  };
  const timer = setInterval(recover, RECOVERY_MS);
  recover();
  return {
    waitUntilReady: () => worker.waitUntilReady(),
    close: () => {
      clearInterval(timer);
      return worker.close();
    },
  };
}

function runDeps({ connection, bucket, store, webhookAllow, ...given }: BatcherDeps): RunBatchDeps {
  const generations = new Queue(GENERATION_QUEUE, { connection, prefix: QUEUE_PREFIX });
  generations.on("error", (error) => given.log.warn({ reason: error.message }, "generation queue"));
  const batches = new BatchStore(connection);
  const files = new FileStore(connection, bucket);
  return {
    ...given,
    store,
    batches,
    files,
    generations,
    batchFiles: new BatchFiles({ redis: connection, batches, files, bucket }),
    keys: new KeyRegistry(connection),
    lookup: { models: { model: (id) => readModel(connection, id) }, jobs: store, webhookAllow },
  };
}

async function step(
  deps: RunBatchDeps,
  log: Logger,
  queueJob: QueueJob<{ id: string }>,
  token: string | undefined,
): Promise<void> {
  const { id } = queueJob.data;
  const goesOn = await stepBatch(deps, id).catch((error: unknown) => {
    log.error({ batch: id, err: error }, "a batch's step failed");
    throw error;
  });
  if (!goesOn) return;
  await queueJob.moveToDelayed(Date.now() + STEP_MS, token);
  throw new DelayedError();
}

async function requeue(connection: Redis, queue: Queue<{ id: string }>): Promise<void> {
  const ids = await connection.smembers(OPEN_BATCHES_KEY);
  await queue.addBulk(ids.map(batchQueueJob));
}
