import { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import type { Job } from "../../../shared/api/jobs.ts";
import type { NewJob } from "../../../shared/jobs/record.ts";
import { jobSources, readJob } from "../../../shared/protocols/job-reply.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import { DUE_KEY, jobKey } from "../../../shared/redis/keys.ts";
import { JOB_VERSION } from "../../../shared/redis/version.ts";
import { sendHeartbeat } from "../../../shared/workers/registry.ts";
import { startSweeper } from "../../../worker/jobs/sweeper.ts";
import { newJob } from "../../support/generation.ts";
import { claimJob } from "../../support/claim.ts";

const throughput = {
  slots: 1,
  busy: 0,
  tokensPerSecond: null,
  tokensMean: null,
  costShare: null,
  tokensVariation: null,
};
const WAIT = { timeout: 30_000 };

let server: RedisServer;
let redis: Redis;
let store: JobStore;
let published: Job[];
/** States of the jobs that the metrics count. */
let counted: string[];
/** Called before a job is published. */
let beforePublish: () => Promise<unknown>;
let stop: () => void;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  store = new JobStore(redis, 60_000);
});

beforeEach(() => {
  published = [];
  counted = [];
  beforePublish = async () => {};
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] });
  const publisher = {
    publishJobEnd: async (_: object, job: Job) => {
      await beforePublish();
      published.push(job);
      await store.clearDue(job.id);
    },
  };
  const sources = jobSources(redis, store);
  stop = startSweeper({
    connection: redis,
    store,
    publisher,
    readJob: (record) => readJob(record, sources),
    log: pino({ level: "silent" }),
    metrics: { jobEnded: (state) => void counted.push(state) },
  });
});

afterEach(async () => {
  stop();
  vi.useRealTimers();
  await redis.flushall();
});

afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

async function submitted(changes: Partial<NewJob>): Promise<string> {
  const job = newJob(changes);
  await store.submit(job);
  return job.id;
}

/** Starts one sweep and waits until `left` jobs are still due at some time; returns their ids. */
async function sweep(remainingCount: number): Promise<string[]> {
  vi.advanceTimersByTime(1_000);
  await vi.waitUntil(async () => (await redis.zcard(DUE_KEY)) === remainingCount, WAIT);
  return redis.zrange(DUE_KEY, "0", "-1");
}

const past = (ms: number) => Date.now() - ms;

test("a queued job past its deadline expires, and its webhook is published", async () => {
  const id = await submitted({ deadlineInMs: -1, webhookUrl: "https://example.com/hook" });
  const early = await submitted({});
  expect(await sweep(1)).toEqual([early]);
  expect(await store.record(id)).toMatchObject({
    state: "expired",
    outcome: { error: { code: "deadline_exceeded" } },
  });
  await vi.waitFor(() => expect(published).toMatchObject([{ id, state: "expired" }]));
  expect(counted).toEqual(["expired"]);
});

test("a queued job that has not started by start_by expires", async () => {
  const id = await submitted({ startByInMs: -1 });
  expect(await sweep(0)).toEqual([]);
  const error = { code: "deadline_exceeded", message: "The job did not start by start_by" };
  expect(await store.record(id)).toMatchObject({ state: "expired", outcome: { error } });
});

test("a running job past its deadline is left to its worker while its lease is renewed, and expires with the lease", async () => {
  const overdue = await submitted({ deadlineInMs: -5_000 });
  const running = await submitted({ deadlineInMs: -5_000 });
  await claimJob(redis, overdue, 0);
  await claimJob(redis, running);
  await store.appendTokens(overdue, 1, 0, { ids: [1], text: "so far" });
  expect(await sweep(1)).toEqual([running]);
  expect(await store.record(overdue)).toMatchObject({ state: "expired", text: "so far" });
  expect(await store.record(running)).toMatchObject({ state: "running" });
});

test("a due entry whose job no longer exists is removed", async () => {
  const id = await submitted({ deadlineInMs: -1 });
  await redis.del(jobKey(id));
  expect(await sweep(0)).toEqual([]);
});

test("an ended job whose webhook was not published is published after a while", async () => {
  const id = await submitted({});
  const { attempt } = await claimJob(redis, id);
  await store.finish(id, attempt, "succeeded", "text", NEVER_RAN);
  expect(await store.due(100)).toEqual([]);
  await redis.zadd(DUE_KEY, past(1), id);
  expect(await sweep(0)).toEqual([]);
  expect(published).toMatchObject([{ id, state: "succeeded" }]);
});

test("jobs that cannot be swept do not hold up those behind them", async () => {
  const newer = await submitted({ deadlineInMs: -1 });
  await redis.hset(jobKey(newer), "version", JOB_VERSION + 1);
  const damaged = Array.from({ length: 99 }, (_, i) => `job_damaged_${i}`);
  for (const id of damaged) await redis.hset(jobKey(id), "id", id, "state", "queued");
  for (const id of [newer, ...damaged]) await redis.zadd(DUE_KEY, 1, id);
  const behind = await submitted({ deadlineInMs: -1 });
  await vi.waitUntil(async () => {
    vi.advanceTimersByTime(1_000);
    return published.some(({ id }) => id === behind);
  }, WAIT);
  expect(await store.record(behind)).toMatchObject({ state: "expired" });
});

test("a given-up job ends when no worker has had its weights for 10 minutes", async () => {
  const id = await submitted({});
  const unbegun = await submitted({});
  for (const job of [id, unbegun]) await claimJob(redis, job, 0);
  await store.appendTokens(id, 1, 0, { ids: [1], text: "so far" });
  const state = async (job: string) => (await store.record(job))!.state;
  const serve = (fingerprint: string) => {
    const models = [{ id: "atlas-qa", fingerprint, reproducible: true }];
    return sendHeartbeat(redis, "worker", { version: "1", throughput, models }, []);
  };
  /** Lets minutes pass, and waits for a check of the weights after them. */
  const checks = vi.spyOn(redis, "smembers");
  const pass = async (minutes: number) => {
    vi.advanceTimersByTime(minutes * 60_000);
    checks.mockClear();
    await vi.waitUntil(() => {
      vi.advanceTimersByTime(2_000);
      return checks.mock.results.length > 1;
    }, WAIT);
    await Promise.all(checks.mock.results.map(({ value }) => value as Promise<unknown>));
  };
  await serve("weights");
  await pass(11);
  await serve("others");
  await pass(1);
  expect(await state(id)).toBe("running");
  await pass(11);
  await vi.waitUntil(async () => (await state(id)) === "failed", WAIT);
  checks.mockRestore();
  const error = { code: "worker_lost", message: expect.stringContaining("weights") };
  expect(await store.record(id)).toMatchObject({ text: "so far", outcome: { error } });
  expect(await state(unbegun)).toBe("running");
  await vi.waitUntil(() => published.length === 1, WAIT);
});

test("deadlines hold while Redis is full and no end can be published", async () => {
  beforePublish = () => redis.set("{trimtab}:webhook", "x");
  const ended = Array.from({ length: 100 }, () => newJob());
  for (const job of ended) {
    await store.submit(job);
    await store.cancel(job.id);
    await redis.zadd(DUE_KEY, 1, job.id);
  }
  const overdue = await submitted({ deadlineInMs: -1 });
  await redis.config("SET", "maxmemory", "1");
  try {
    await vi.waitUntil(async () => {
      vi.advanceTimersByTime(1_000);
      return (await redis.hget(jobKey(overdue), "state")) === "expired";
    }, WAIT);
    expect(published).toEqual([]);
  } finally {
    await redis.config("SET", "maxmemory", "0");
  }
});

test("a cancelled job whose worker was lost ends when its lease expires", async () => {
  const [lost, running] = [await submitted({}), await submitted({})];
  await claimJob(redis, lost, 0);
  await claimJob(redis, running);
  await store.appendTokens(lost, 1, 0, { ids: [1], text: "so far" });
  for (const id of [lost, running]) expect(await store.cancel(id)).toBe("requested");
  await vi.waitUntil(async () => {
    vi.advanceTimersByTime(1_000);
    return (await redis.hget(jobKey(lost), "state")) === "cancelled";
  }, WAIT);
  expect(await store.record(lost)).toMatchObject({ text: "so far", outcome: { error: null } });
  expect(await redis.hget(jobKey(running), "state")).toBe("running");
});

test("one sweep ends all due jobs, however many one tenant has", async () => {
  for (let i = 0; i < 350; i++) await submitted({ deadlineInMs: -1 });
  expect(await sweep(0)).toEqual([]);
});
