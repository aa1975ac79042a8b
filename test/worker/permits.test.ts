/** Jobs that wait without a permit of their own, because whoever submitted one of them died before queueing it. */
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { FairQueue } from "../../shared/fair-queue.ts";
import { enqueue } from "../../shared/generation-queue.ts";
import { JobStore } from "../../shared/job-store.ts";
import { GENERATION_QUEUE, QUEUE_PREFIX } from "../../shared/redis-keys.ts";
import { restorePermits } from "../../worker/permits.ts";
import { newJob } from "../support/generation.ts";

let server: RedisServer;
let redis: Redis;
let generations: Queue;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
  generations = new Queue(GENERATION_QUEUE, { connection: redis, prefix: QUEUE_PREFIX });
});
afterAll(async () => {
  await generations.close();
  redis.disconnect();
  await server.stop();
});

test("as many permits are added as are lacking, once", async () => {
  const store = new JobStore(redis, 60_000);
  const deps = { queue: new FairQueue(redis), generations };
  const permits = async () => {
    const waiting = await generations.getJobs(["wait"]);
    return new Set(waiting.map(({ id }) => id));
  };
  const jobs = [newJob({ tenant: "a" }), newJob({ tenant: "b" }), newJob({ tenant: "b" })];
  const ids = new Set(jobs.map(({ id }) => id));
  for (const job of jobs) await store.submit(job);
  await enqueue(generations, [jobs[2]!.id]);
  await restorePermits(deps);
  expect(await permits()).toEqual(ids);
  await restorePermits(deps);
  expect(await permits()).toEqual(ids);
});
