/**
 * Reads the lengths of the queues for the metrics. It reads at intervals, not when Prometheus scrapes, because a scrape
 * must not wait while Redis does not answer.
 */
import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { laneCounts, type LaneCounts } from "../../shared/queue/lane-counts.ts";
import { modelsOfLane } from "../../shared/queue/lanes.ts";
import {
  LEASE_GROUPS_KEY,
  LEASES_PREFIX,
  MODELS_KEY,
  QUEUES,
  SUSPECTS_PREFIX,
  WAITING_JOBS_KEY,
} from "../../shared/redis/keys.ts";
import type { RedisClient } from "../../shared/redis/client.ts";
import { commandsOf, tagOf } from "../../shared/redis/tags.ts";
import { whenReady } from "../redis/connection.ts";

const INTERVAL_MS = 2_000;

/** Counts of the entries in one queue: jobs, deliveries or batches. */
export interface QueueGauges {
  readonly queue: string;
  /** Ready, and waiting for a worker. */
  readonly waiting: number;
  /** Not due yet: retries and later steps; of jobs, the suspects. */
  readonly delayed: number;
  /** Taken by a worker. */
  readonly active: number;
  /** Age in seconds of the oldest waiting entry; 0 if none waits. */
  readonly ageSeconds: number;
}

export interface QueueGaugesDeps {
  readonly connection: Redis;
  readonly log: Logger;
  readonly onGauges: (gauges: QueueGauges) => void;
  /** Called with the jobs that need each known model. */
  readonly onModels: (models: ReadonlyMap<string, LaneCounts>) => void;
}

/** Reads the gauges of all queues at intervals. @returns a function that stops the reading */
export function watchQueueGauges({
  connection,
  log,
  onGauges,
  onModels,
}: QueueGaugesDeps): () => void {
  const queues = QUEUES.map((name) => new Queue(name, { connection, prefix: tagOf(connection) }));
  for (const queue of queues) {
    queue.on("error", (error) => log.warn({ reason: error.message }, "Queue error"));
  }
  const redis = commandsOf(connection);
  let isReading = false;
  const read = () => {
    if (isReading) return;
    isReading = true;
    const all = [readJobGauges(connection, redis), ...queues.map(readQueueGauges)];
    const models = readModelJobs(redis).then((counts) => counts && onModels(counts));
    Promise.all([models, ...all.map(async (gauges) => onGauges(await gauges))])
      .catch((error: unknown) => log.warn({ err: error }, "Could not read the queue lengths"))
      .finally(() => (isReading = false));
  };
  read();
  const timer = setInterval(read, INTERVAL_MS);
  return () => clearInterval(timer);
}

/** It reads a count of each lane, not the jobs. */
async function readJobGauges(connection: Redis, redis: RedisClient): Promise<QueueGauges> {
  await whenReady(connection);
  const [waiting, [, submittedMs], [seconds], groups] = await Promise.all([
    redis.zcard(WAITING_JOBS_KEY),
    redis.zrange(WAITING_JOBS_KEY, 0, "0", "WITHSCORES"),
    redis.time(),
    redis.smembers(LEASE_GROUPS_KEY),
  ]);
  const total = async (prefix: string) => {
    const counts = await Promise.all(groups.map((group) => redis.zcard(prefix + group)));
    return counts.reduce((sum, count) => sum + count, 0);
  };
  return {
    queue: "jobs",
    waiting,
    delayed: await total(SUSPECTS_PREFIX),
    active: await total(LEASES_PREFIX),
    ageSeconds:
      submittedMs === undefined ? 0 : Math.max(0, Number(seconds) - Number(submittedMs) / 1000),
  };
}

/** Known models without jobs have zeros: a metric that vanishes is no reason to scale to zero. Null if there are no counts yet. */
async function readModelJobs(redis: RedisClient): Promise<ReadonlyMap<string, LaneCounts> | null> {
  const [ids, lanes] = await Promise.all([redis.hkeys(MODELS_KEY), laneCounts(redis)]);
  if (lanes === null) return null;
  const models = new Map<string, LaneCounts>(
    ids.map((id) => [id, { waiting: 0, running: 0, ageSeconds: 0 }]),
  );
  for (const [lane, counts] of lanes) {
    for (const id of modelsOfLane(lane)) {
      const sum = models.get(id) ?? { waiting: 0, running: 0, ageSeconds: 0 };
      models.set(id, {
        waiting: sum.waiting + counts.waiting,
        running: sum.running + counts.running,
        ageSeconds: Math.max(sum.ageSeconds, counts.ageSeconds),
      });
    }
  }
  return models;
}

async function readQueueGauges(queue: Queue): Promise<QueueGauges> {
  const [counts, [first]] = await Promise.all([
    queue.getJobCounts("waiting", "delayed", "active"),
    queue.getJobs(["waiting"], 0, 0, true),
  ]);
  const { waiting = 0, delayed = 0, active = 0 } = counts;
  const ageSeconds = first ? Math.max(0, Date.now() - first.timestamp) / 1000 : 0;
  return { queue: queue.name, waiting, delayed, active, ageSeconds };
}
