/** What may not stay in Redis once every job has ended: places, permits, tasks of any queue, counts of a key's jobs. */
import { setTimeout as delay } from "node:timers/promises";
import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import { connectRedis } from "../../infra/stack/redis.ts";
import {
  BATCH_QUEUE,
  DUE_KEY,
  DELIVERY_QUEUE,
  FAIR_WAITING_KEY,
  GENERATION_QUEUE,
  KEY_JOBS_PREFIX,
  PERMITS_KEY,
  QUEUE_PREFIX,
} from "../../shared/redis-keys.ts";

const POLL_MS = 200;

/** Waits until nothing is left. @returns what is, after the deadline */
export async function leftovers(redisUrl: string, deadlineMs: number): Promise<string[]> {
  const redis = await connectRedis(redisUrl);
  try {
    for (const endMs = Date.now() + deadlineMs; ; await delay(POLL_MS)) {
      const counts = await countAll(redis);
      const left = Object.entries(counts).filter(([, count]) => count > 0);
      if (left.length === 0 || Date.now() > endMs) {
        return left.map(([name, count]) => `left in Redis: ${count} ${name}`);
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
    "tenants with waiting jobs": await redis.zcard(FAIR_WAITING_KEY),
    "permits in use": await redis.hlen(PERMITS_KEY),
    "jobs held against a key": cards.reduce((sum, count) => sum + count, 0),
    ...(await tasksOf(redis, GENERATION_QUEUE)),
    ...(await tasksOf(redis, DELIVERY_QUEUE)),
    ...(await tasksOf(redis, BATCH_QUEUE)),
  };
}

async function tasksOf(redis: Redis, name: string): Promise<Record<string, number>> {
  const queue = new Queue(name, { connection: redis, prefix: QUEUE_PREFIX });
  const counts = await queue.getJobCounts("wait", "active", "delayed", "prioritized");
  return { [`tasks in the queue ${name}`]: Object.values(counts).reduce((sum, n) => sum + n, 0) };
}
