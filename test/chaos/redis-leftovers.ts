/** Finds what must not remain in Redis once every job has ended: queue entries, leases, tasks, counts of unended jobs. */
import { setTimeout as delay } from "node:timers/promises";
import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import { connectRedis } from "../../infra/stack/redis.ts";
import {
  BATCH_QUEUE,
  DUE_KEY,
  DELIVERY_QUEUE,
  LANES_KEY,
  LEASE_GROUPS_KEY,
  KEY_JOBS_PREFIX,
  TAG,
  WAITING_JOBS_KEY,
} from "../../shared/redis/keys.ts";
import { describeUnendedJobs } from "./unended-jobs.ts";

const POLL_MS = 200;

/** Waits until nothing is left. @returns a line for each kind of leftover after the deadline, and for each job that has not ended */
export async function redisLeftovers(redisUrl: string, deadlineMs: number): Promise<string[]> {
  const redis = await connectRedis(redisUrl);
  try {
    for (const endMs = Date.now() + deadlineMs; ; await delay(POLL_MS)) {
      const counts = await countAll(redis);
      const left = Object.entries(counts).filter(([, count]) => count > 0);
      if (left.length === 0 || Date.now() > endMs) {
        const lines = left.map(([name, count]) => `left in Redis: ${count} ${name}`);
        return left.length === 0 ? [] : [...lines, ...(await describeUnendedJobs(redis))];
      }
    }
  } finally {
    redis.disconnect();
  }
}

async function countAll(redis: Redis): Promise<Record<string, number>> {
  const keyJobs = await redis.keys(`${KEY_JOBS_PREFIX}*`);
  const cards = await Promise.all(keyJobs.map((name) => redis.scard(name)));
  return {
    "unended jobs": await redis.zcard(DUE_KEY),
    "waiting jobs": await redis.zcard(WAITING_JOBS_KEY),
    "lanes with waiting jobs": await redis.scard(LANES_KEY),
    "groups of leases or suspects": await redis.scard(LEASE_GROUPS_KEY),
    "unended jobs counted for an API key": cards.reduce((sum, count) => sum + count, 0),
    ...(await countTasks(redis, DELIVERY_QUEUE)),
    ...(await countTasks(redis, BATCH_QUEUE)),
  };
}

async function countTasks(redis: Redis, name: string): Promise<Record<string, number>> {
  const queue = new Queue(name, { connection: redis, prefix: TAG });
  const counts = await queue.getJobCounts("wait", "active", "delayed", "prioritized");
  return { [`tasks in the queue ${name}`]: Object.values(counts).reduce((sum, n) => sum + n, 0) };
}
