/** The parts that the jobs of one request share, the bytes that a tenant's requests may have, and limits that several keys share. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { LIMITS } from "../../../shared/api/limits.ts";
import { newId } from "../../../shared/ids.ts";
import { choiceIds } from "../../../shared/jobs/ids.ts";
import { JobLeases } from "../../../shared/jobs/leases.ts";
import { GRAMMAR } from "../../../shared/grammar/rules/grammar.ts";
import { GENERATION, REQUEST_OPTIONS, type NewJob } from "../../../shared/jobs/record.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import {
  jobKey,
  KEY_JOBS_PREFIX,
  REQUEST_BYTES_KEY,
  sharedKey,
  SHARED_PREFIX,
} from "../../../shared/redis/keys.ts";
import { JOB_VERSION, NewerRecord } from "../../../shared/redis/version.ts";
import { withSuccessiveSeeds } from "../../../shared/submission/validate.ts";
import { generation, newJob } from "../../support/generation.ts";

const RETENTION_MS = 60_000;
const CHOICES = 4;
const PROMPT = "a".repeat(100_000);

let server: RedisServer;
let redis: Redis;
let store: JobStore;
let leases: JobLeases;
beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  store = new JobStore(redis, RETENTION_MS);
  leases = new JobLeases(redis);
});
afterEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

const unlimited = (jobs: readonly NewJob[]) => ({
  pools: [],
  tokens: jobs.map(() => 1),
  idempotency: null,
});

/** The jobs of a request with n = CHOICES. */
function choices(tenant = newId("tenant")): NewJob[] {
  const id = newId("job");
  const one = generation({ input: { kind: "text", text: PROMPT }, seed: 7 });
  const options = { user: "u" };
  return withSuccessiveSeeds(one, CHOICES).map((generation, k) =>
    newJob({
      id: k === 0 ? id : `${id}-${k}`,
      tenant,
      generation,
      requestOptions: k === 0 ? { ...options, choices: CHOICES } : options,
    }),
  );
}

const takeOrder = (model: string) => ({
  lanes: [[model, "weights"]] as const,
  takesJobs: true,
  leaseMs: 10_000,
  attemptsMax: 3,
});

test("the choices of a request store their prompt once, and each is read whole", async () => {
  const jobs = choices();
  await store.submitAll(jobs, unlimited(jobs));
  const sizes = await Promise.all(
    jobs.map(({ id }) => redis.memory("USAGE", jobKey(id), "SAMPLES", 0)),
  );
  expect(Math.max(...sizes.map(Number))).toBeLessThan(5_000);
  for (const job of jobs) {
    const record = (await store.record(job.id))!;
    expect(record.generation).toEqual(job.generation);
    expect(record.requestOptions).toEqual(job.requestOptions);
  }
  const { job } = await leases.take(takeOrder(jobs[0]!.generation.model));
  expect(job?.record.generation).toEqual(jobs[0]!.generation);
  expect(choiceIds((await store.record(jobs[0]!.id))!)).toEqual(jobs.map(({ id }) => id));
});

test("what choices share stays until the last of them has ended and expired, or was deleted", async () => {
  const jobs = choices();
  await store.submitAll(jobs, unlimited(jobs));
  const [first, second, ...others] = jobs.map(({ id }) => id) as [string, string, ...string[]];
  const shared = sharedKey(first);
  await store.delete(first);
  await store.finish(second, 0, "succeeded", "", NEVER_RAN);
  expect((await store.record(second))?.generation.input).toEqual({ kind: "text", text: PROMPT });
  expect(await redis.pttl(shared)).toBe(-1);
  for (const id of others) await store.cancel(id);
  expect(await redis.pttl(shared)).toBeGreaterThan(RETENTION_MS);
  for (const id of [second, ...others]) await store.delete(id);
  expect(await redis.keys(`${SHARED_PREFIX}*`)).toEqual([]);
});

test("a tenant's requests that wait or run have a limit of bytes, which an end gives back", async () => {
  const jobs = choices("acme");
  await store.submitAll(jobs, unlimited(jobs));
  const held = Number(await redis.hget(REQUEST_BYTES_KEY, "acme"));
  expect(held).toBeGreaterThan(PROMPT.length);
  expect(held).toBeLessThan(1.1 * PROMPT.length);
  await redis.hset(REQUEST_BYTES_KEY, "acme", LIMITS.requestBytesMax - held);
  const more = choices("acme");
  expect(await store.submitAll(more, unlimited(more))).toMatchObject({ status: "created" });
  const tooMany = [newJob({ tenant: "acme" })];
  expect(await store.submitAll(tooMany, unlimited(tooMany))).toMatchObject({ status: "full" });
  expect(await store.record(tooMany[0]!.id)).toBeNull();
  const other = [newJob({ tenant: "other" })];
  expect(await store.submitAll(other, unlimited(other))).toMatchObject({ status: "created" });
  await redis.hset(REQUEST_BYTES_KEY, "acme", 2 * held);
  for (const { id } of jobs) await store.cancel(id);
  for (const { id } of more) await store.delete(id);
  // The ids of the two requests may differ in length.
  expect(Number(await redis.hget(REQUEST_BYTES_KEY, "acme"))).toBeLessThan(100);
});

test("a request counts towards all its pools, and its end is counted in all", async () => {
  const pool = (id: string, requests: number) => ({
    id,
    limits: { requests_per_minute: requests, concurrent_jobs: 2 },
  });
  const submit = async (own: string) => {
    const job = newJob();
    const pools = [pool(own, 100), pool("maker", 3)];
    const result = await store.submitAll([job], { pools, tokens: [1], idempotency: null });
    return { id: job.id, result };
  };
  const first = await submit("a");
  expect(first.result).toMatchObject({ status: "created", rateLimits: { requests: 2, jobs: 1 } });
  await submit("b");
  expect((await submit("c")).result).toMatchObject({ status: "limited", limit: "jobs" });
  await store.cancel(first.id);
  expect(await redis.smembers(`${KEY_JOBS_PREFIX}a`)).toEqual([]);
  expect(await redis.scard(`${KEY_JOBS_PREFIX}maker`)).toBe(1);
  expect((await submit("d")).result).toMatchObject({ status: "created" });
  await store.cancel((await submit("e")).id);
  for (const id of await redis.smembers(`${KEY_JOBS_PREFIX}maker`)) await store.cancel(id);
  const last = await submit("f");
  expect(last.result).toMatchObject({
    status: "limited",
    limit: "requests",
    pool: { id: "maker" },
  });
});

test("a job of a higher version is not taken, and does not hold up the jobs behind it", async () => {
  const [newer, next] = [newJob({ tenant: "a" }), newJob({ tenant: "a" })];
  for (const job of [newer, next]) await store.submit(job);
  await redis.hset(jobKey(newer.id), "version", JOB_VERSION + 1);
  const order = takeOrder(newer.generation.model);
  expect((await leases.take(order)).job?.record.id).toBe(next.id);
  expect((await leases.take(order)).job).toBeNull();
  expect(await redis.hmget(jobKey(newer.id), "state", "attempt", "lane")).toEqual([
    "queued",
    "0",
    `${newer.generation.model}+@${JOB_VERSION + 1}`,
  ]);
  await expect(store.record(newer.id)).rejects.toThrow(NewerRecord);
});

test.each([
  ["generation", { tempo: 2 }],
  ["generation", { grammar: { rules: ["a"], start: 1 } }],
  ["generation", { grammar: { rules: [{ all: [{ byte: [[1, 2]], except: "a" }] }] } }],
  ["requestOptions", { tempo: 2 }],
])(
  "a job whose %s has an unknown member (%j) is left to a newer worker, and its attempt does not count as lost",
  async (field, unknown) => {
    const job = newJob();
    await store.submit(job);
    const stored = JSON.parse((await redis.hget(jobKey(job.id), field))!) as object;
    await redis.hset(jobKey(job.id), field, JSON.stringify({ ...stored, ...unknown }));
    const taken = await leases.take(takeOrder(job.generation.model));
    expect(taken).toMatchObject({ job: null, newer: { id: job.id } });
    expect(await redis.hget(jobKey(job.id), "claimedTokens")).toBe("-1");
    const again = await leases.take(takeOrder(job.generation.model));
    expect(again).toMatchObject({ job: null, newer: null });
    expect(again.waitMs).toBeGreaterThan(20_000);
  },
);

/** An older worker ignores no member: raise JOB_VERSION with every change of these lists. */
test("the members of a stored job are those of the job version", () => {
  const members = [GENERATION, REQUEST_OPTIONS, GRAMMAR].map((known) =>
    Object.keys(known).toSorted().join(" "),
  );
  expect([JOB_VERSION, ...members]).toEqual([
    5,
    "alpha baseErrorAction baseErrorMax candidates completion frequencyPenalty gate grammar guards input logitBias logprobs maxTokens minP model pairConflicts pairs presencePenalty promptLogprobs repetitionPenalty schedule seed stop temperature tools topK topP trace",
    "background batch choices echo format instructed previous promptCacheKey promptLogprobs protocol reproducible requestId safetyIdentifier store traceparent user webhookEvents",
    "all any byte first max min of others rule rules text unless",
  ]);
});
