/**
 * The batch consumer: takes batches from BullMQ's batch queue and does one step of each (step.ts). Between two steps a batch
 * waits in the queue, so many batches share a worker, and other workers continue the batches of a lost worker.
 * This folder turns input lines into jobs and ended jobs into result lines. It knows the stores, not the engine: its jobs
 * are run by worker/jobs/ like all others.
 */
import { DelayedError, Queue, type Job as QueueJob } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { batchQueueJob } from "../../shared/batches/queue.ts";
import { BatchStore } from "../../shared/batches/store.ts";
import type { Bucket } from "../../shared/files/bucket.ts";
import { FileStore } from "../../shared/files/store.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { hasModels, readModel, workersServing } from "../../shared/workers/registry.ts";
import { BATCH_QUEUE, OPEN_BATCHES_KEY } from "../../shared/redis/keys.ts";
import type { RedisClient } from "../../shared/redis/client.ts";
import { commandsOf, tagOf } from "../../shared/redis/tags.ts";
import { NewerRecord } from "../../shared/redis/version.ts";
import type { AddressRanges } from "../../shared/webhooks/url.ts";
import { giveUpBatch } from "./give-up.ts";
import { BatchResultFiles } from "./result-files.ts";
import { startQueueWorker } from "../redis/queue-worker.ts";
import { clearFaults, recordFault, recordLoss, type BatchJobData } from "./step-faults.ts";
import { stepBatch, type BatchStepDeps } from "./step.ts";

/** Steps that one worker does at the same time. */
const CONCURRENCY = 4;
/** Pause between two steps of a batch. An ended job is noticed, and the next line opened, after about this time. */
const STEP_PAUSE_MS = 250;
/** Pause of a batch that only a worker of a newer release can step. */
const NEWER_PAUSE_MS = 5_000;
/** Interval of the search for open batches that are not in the queue, because the edge crashed before it queued them. */
const RECOVERY_INTERVAL_MS = 60_000;

export interface BatchConsumerDeps extends Pick<
  BatchStepDeps,
  "store" | "clock" | "publisher" | "readJob" | "openLinesMax"
> {
  readonly connection: Redis;
  readonly bucket: Bucket | null;
  /** Address ranges that are not public and may still receive webhooks. */
  readonly webhookAllow: AddressRanges;
  readonly log: Logger;
  /** Whether no step may be done now. */
  readonly isPaused?: () => boolean;
  /** If the lock of a batch is not renewed for this many milliseconds, another worker takes over its step. */
  readonly lockMs: number;
}

export interface BatchConsumer {
  /** Resolves when it is connected to Redis. */
  waitUntilReady(): Promise<unknown>;
  /** Takes no more batches, and waits for the steps in progress. */
  close(): Promise<void>;
}

/** Starts taking batches. At the start and at intervals it also queues the open batches that are missing in the queue. */
export function startBatchConsumer(options: BatchConsumerDeps): BatchConsumer {
  const { connection, lockMs, log, isPaused } = options;
  const deps = stepDeps(options);
  const worker = startQueueWorker<BatchJobData>(
    BATCH_QUEUE,
    (queueJob, token) => runStep(deps, log, queueJob, token),
    { connection, concurrency: CONCURRENCY, lockMs, log, ...(isPaused && { isPaused }) },
  );
  const queue = new Queue<{ id: string }>(BATCH_QUEUE, { connection, prefix: tagOf(connection) });
  queue.on("error", (error) => log.warn({ reason: error.message }, "Batch queue error"));
  const recover = () => {
    requeueOpenBatches(commandsOf(connection), queue).catch((error: unknown) =>
      log.warn({ err: error }, "Could not check for open batches that are missing in the queue"),
    );
  };
  const timer = setInterval(recover, RECOVERY_INTERVAL_MS);
  recover();
  return {
    waitUntilReady: () => worker.waitUntilReady(),
    close: () => {
      clearInterval(timer);
      return worker.close();
    },
  };
}

function stepDeps({
  connection,
  bucket,
  store,
  webhookAllow,
  ...rest
}: BatchConsumerDeps): BatchStepDeps {
  const resultBytesMax = bucket === null ? undefined : Number.MAX_SAFE_INTEGER;
  const redis = commandsOf(connection);
  const batches = new BatchStore(redis, resultBytesMax);
  const files = new FileStore(redis, bucket);
  return {
    ...rest,
    store,
    batches,
    files,
    resultFiles: new BatchResultFiles({ redis, batches, files, bucket }),
    keys: new KeyRegistry(redis),
    hasModels: () => hasModels(redis),
    requestContext: {
      models: {
        model: (id) => readModel(redis, id),
        workersOf: (id) => workersServing(redis, [id]),
      },
      jobs: store,
      webhookAllow,
    },
  };
}

async function runStep(
  deps: BatchStepDeps,
  log: Logger,
  queueJob: QueueJob<BatchJobData>,
  token: string | undefined,
): Promise<void> {
  const { id } = queueJob.data;
  let pauseMs = STEP_PAUSE_MS;
  const isNextLineLost = await recordLoss(queueJob);
  if (isNextLineLost) log.error({ batch: id }, "A line of a batch fails: steps with it were lost");
  const hasMore = await stepBatch(deps, id, isNextLineLost).catch(async (error: unknown) => {
    if (error instanceof NewerRecord) {
      pauseMs = NEWER_PAUSE_MS;
      log.warn(
        { batch: id, reason: error.message },
        "A worker of a newer release must run a batch",
      );
      return true;
    }
    log.error({ batch: id, err: error }, "A step of a batch of requests failed");
    await recordFault(deps.batches, (id) => giveUpBatch(deps, id), queueJob, error);
    throw error;
  });
  await clearFaults(queueJob);
  if (!hasMore) return;
  await queueJob.moveToDelayed(Date.now() + pauseMs, token);
  throw new DelayedError();
}

async function requeueOpenBatches(redis: RedisClient, queue: Queue<{ id: string }>): Promise<void> {
  const ids = await redis.smembers(OPEN_BATCHES_KEY);
  await queue.addBulk(ids.map(batchQueueJob));
}
