import { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import type { Job } from "../../shared/contract.ts";
import type { NewJob } from "../../shared/job.ts";
import { JobStore, NEVER_RAN } from "../../shared/job-store.ts";
import { DUE_KEY, jobKey } from "../../shared/redis-keys.ts";
import { startSweeper } from "../../worker/sweeper.ts";
import { newJob } from "../support/generation.ts";

let server: RedisServer;
let redis: Redis;
let store: JobStore;
let announced: Job[];
let stop: () => void;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  store = new JobStore(redis, 60_000);
});

beforeEach(() => {
  announced = [];
  vi.useFakeTimers({ toFake: ["setInterval", "clearInterval"] });
  const announcer = {
    ended: async (_: object, job: Job) => {
      announced.push(job);
      await store.settle(job.id);
    },
  };
  stop = startSweeper({ store, announcer, log: pino({ level: "silent" }) });
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

/** Lets one sweep begin and waits until so many jobs are left to be looked at; gives them. */
async function sweep(left: number): Promise<string[]> {
  vi.advanceTimersByTime(1_000);
  await vi.waitUntil(async () => (await redis.zcard(DUE_KEY)) === left);
  return store.due(Number.MAX_SAFE_INTEGER, 100);
}

const past = (ms: number) => Date.now() - ms;

test("a queued job past its deadline expires, and its owner is told", async () => {
  const id = await submitted({ deadlineMs: past(1), webhookUrl: "https://example.com/hook" });
  const early = await submitted({});
  expect(await sweep(1)).toEqual([early]);
  expect(await store.record(id)).toMatchObject({
    state: "expired",
    outcome: { error: { code: "deadline_exceeded" } },
  });
  await vi.waitFor(() => expect(announced).toMatchObject([{ id, state: "expired" }]));
});

test("a queued job that has not started by its time expires", async () => {
  const id = await submitted({ startByMs: past(1) });
  expect(await sweep(0)).toEqual([]);
  const error = { code: "deadline_exceeded", message: "the job did not start by start_by" };
  expect(await store.record(id)).toMatchObject({ state: "expired", outcome: { error } });
});

test("a running job is its worker's to expire, until it is long overdue", async () => {
  const overdue = await submitted({ deadlineMs: past(61_000) });
  const running = await submitted({ deadlineMs: past(5_000) });
  for (const id of [overdue, running]) await store.claim(id, 9);
  await store.appendTokens(overdue, 1, 0, { ids: [1], text: "so far" });
  expect(await sweep(1)).toEqual([running]);
  expect(await store.record(overdue)).toMatchObject({ state: "expired", text: "so far" });
  expect(await store.record(running)).toMatchObject({ state: "running" });
});

test("a deadline whose job is gone is forgotten", async () => {
  const id = await submitted({ deadlineMs: past(1) });
  await redis.del(jobKey(id));
  expect(await sweep(0)).toEqual([]);
});

test("a job that ended and was not announced is announced after a while", async () => {
  const id = await submitted({});
  const { attempt } = (await store.claim(id, 9)) as { attempt: number };
  await store.finish(id, attempt, "succeeded", "text", NEVER_RAN);
  expect(await store.due(Date.now() + 9_000, 100)).toEqual([]);
  await redis.zadd(DUE_KEY, past(1), id);
  expect(await sweep(0)).toEqual([]);
  expect(announced).toMatchObject([{ id, state: "succeeded" }]);
});
