/** The bytes that a tenant's jobs may have in Redis, ended ones included. Time passes as the tests rename the stored buckets. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { newId } from "../../../shared/ids.ts";
import type { NewJob } from "../../../shared/jobs/record.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import { jobKey, logKey, STORED_BYTES_PREFIX } from "../../../shared/redis/keys.ts";
import { withSuccessiveSeeds } from "../../../shared/submission/validate.ts";
import { claimJob } from "../../support/claim.ts";
import { generation, newJob } from "../../support/generation.ts";

const RETENTION_MS = 24 * 3_600_000;
const HOUR_MS = 3_600_000;
const MIB = 1_048_576;
const PROMPT = "a".repeat(100_000);
const COUNTS = `${STORED_BYTES_PREFIX}acme`;

let server: RedisServer;
let redis: Redis;
let store: JobStore;
beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  store = new JobStore(redis, RETENTION_MS, 1);
});
afterEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

const large = (fields: Partial<NewJob> = {}) =>
  newJob({
    tenant: "acme",
    generation: generation({ input: { kind: "text", text: PROMPT } }),
    ...fields,
  });
const counted = async () =>
  (await redis.hvals(COUNTS)).reduce((sum, bytes) => sum + Number(bytes), 0);

/** Submits and cancels large requests until one is refused. */
async function fill() {
  const ids: string[] = [];
  for (;;) {
    const job = large();
    const result = await store.submit(job);
    if (result.status !== "created") return { ids, result };
    await store.cancel(job.id);
    ids.push(job.id);
  }
}

/** Lets time pass for what is counted. */
async function pass(ms: number) {
  const buckets = await redis.hgetall(COUNTS);
  await redis.del(COUNTS);
  for (const [untilMs, bytes] of Object.entries(buckets))
    await redis.hset(COUNTS, String(Number(untilMs) - ms), bytes);
}

test("requests that are submitted and cancelled are bounded, and other tenants are not affected", async () => {
  const { ids, result } = await fill();
  expect(ids).toHaveLength(Math.floor(MIB / (PROMPT.length + 8_000)));
  expect(result).toMatchObject({ status: "full", counted: "stored", bytesMax: MIB });
  const { waitMs } = result as typeof result & { status: "full" };
  expect(waitMs).toBeGreaterThan(RETENTION_MS - HOUR_MS / 2);
  expect(waitMs).toBeLessThanOrEqual(RETENTION_MS + HOUR_MS);
  expect(await counted()).toBeLessThanOrEqual(MIB);
  const line = large({ requestOptions: { batch: "batch_1" } });
  expect(await store.submit(line)).toMatchObject({ status: "full" });
  expect(await store.record(line.id)).toBeNull();
  expect(await store.submit(large({ tenant: "other" }))).toMatchObject({ status: "created" });
});

test("a deletion gives back what was counted, also that of a running job", async () => {
  const { ids } = await fill();
  await store.delete(ids[0]!);
  const running = large();
  expect(await store.submit(running)).toMatchObject({ status: "created" });
  await claimJob(redis, running.id);
  for (const id of [...ids.slice(1), running.id]) await store.delete(id);
  expect(await redis.exists(COUNTS)).toBe(0);
});

test("expired jobs count no more, and the counts expire with the last of them", async () => {
  await fill();
  const keptMs = await redis.pttl(COUNTS);
  expect(keptMs).toBeGreaterThan(RETENTION_MS - 60_000);
  expect(keptMs).toBeLessThanOrEqual(RETENTION_MS + HOUR_MS);
  await pass(RETENTION_MS - 2 * HOUR_MS);
  expect(await store.submit(large())).toMatchObject({ status: "full" });
  await pass(3 * HOUR_MS);
  const job = large();
  expect(await store.submit(job)).toMatchObject({ status: "created" });
  await store.cancel(job.id);
  expect(await redis.hlen(COUNTS)).toBe(1);
  expect(await counted()).toBeLessThan(1.1 * PROMPT.length);
});

test("what choices share counts once, with the last of them, until the last is deleted", async () => {
  const one = generation({ input: { kind: "text", text: PROMPT }, seed: 7 });
  const id = newId("job");
  const jobs = withSuccessiveSeeds(one, 4).map((generation, k) =>
    newJob({ id: k === 0 ? id : `${id}-${k}`, tenant: "acme", generation }),
  );
  await store.submitAll(jobs, { pools: [], tokens: jobs.map(() => 1), idempotency: null });
  for (const job of jobs.slice(1)) await store.cancel(job.id);
  expect(await counted()).toBeLessThan(PROMPT.length);
  await store.cancel(id);
  expect(await counted()).toBeGreaterThan(PROMPT.length);
  expect(await counted()).toBeLessThan(1.4 * PROMPT.length);
  for (const job of jobs.slice(1)) await store.delete(job.id);
  expect(await counted()).toBeGreaterThan(PROMPT.length);
  await store.delete(id);
  expect(await redis.exists(COUNTS)).toBe(0);
});

test("output and events count, about as much as Redis needs for them", async () => {
  const job = newJob({ tenant: "acme" });
  await store.submit(job);
  const { attempt } = await claimJob(redis, job.id);
  const text = "word ".repeat(20);
  for (let at = 0; at < 200; at++)
    await store.appendTokens(job.id, attempt, at, { ids: [at], text });
  await store.finish(job.id, attempt, "succeeded", text.repeat(200), NEVER_RAN);
  // By default Redis estimates a hash from 5 random fields; one of them may be the whole output.
  const usages = [jobKey(job.id), logKey(job.id)].map((key) =>
    redis.memory("USAGE", key, "SAMPLES", 0),
  );
  const used = (await Promise.all(usages)).reduce<number>((sum, bytes) => sum + Number(bytes), 0);
  expect(await counted()).toBeGreaterThan(0.8 * used);
  expect(await counted()).toBeLessThan(1.5 * used);
});

test("a short job counts about as much as Redis needs for it", async () => {
  const used = async () => Number(/used_memory:(\d+)/.exec(await redis.info("memory"))![1]);
  const cancelled = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const job = newJob({ tenant: "acme" });
      await store.submit(job);
      await store.cancel(job.id);
    }
  };
  // The first loads the scripts.
  await cancelled(1);
  const [usedBefore, countedBefore] = [await used(), await counted()];
  await cancelled(100);
  const ratio = ((await counted()) - countedBefore) / ((await used()) - usedBefore);
  expect(ratio).toBeGreaterThan(0.8);
  expect(ratio).toBeLessThan(1.4);
});
