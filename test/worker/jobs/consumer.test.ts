import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import type { JobRecord, NewJob } from "../../../shared/jobs/record.ts";
import { jobSources, readJob } from "../../../shared/protocols/job-reply.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { DELIVERY_QUEUE, jobKey, LEASES_PREFIX, logKey, TAG } from "../../../shared/redis/keys.ts";
import { Webhooks } from "../../support/webhooks.ts";
import {
  startJobConsumer,
  type JobConsumer,
  type JobConsumerDeps,
} from "../../../worker/jobs/consumer.ts";
import { NO_USAGE } from "../../../worker/engine-client/messages.ts";
import { Metrics } from "../../../worker/telemetry/metrics.ts";
import { Slots } from "../../../worker/jobs/slots.ts";
import { ThroughputMeter } from "../../../worker/jobs/throughput.ts";
import { connectRedis } from "../../../worker/redis/connection.ts";
import { claimJob } from "../../support/claim.ts";
import { generation, newJob } from "../../support/generation.ts";
import { silentEngine, slowLookups } from "../../support/stuck-parts.ts";

const lines: string[] = [];
const log = pino({}, { write: (line: string) => lines.push(line) });
const metrics = new Metrics({ version: "1.2.3", commit: "" });
const WEBHOOK = "https://example.com/hook";

let server: RedisServer;
let redis: Redis;
let store: JobStore;
let deliveries: Queue;
let webhooks: Webhooks;
let consumer: JobConsumer;

beforeAll(async () => {
  server = await startRedis();
  redis = connectRedis(server.url, log);
  store = new JobStore(redis, 60_000);
  deliveries = new Queue(DELIVERY_QUEUE, { connection: redis, prefix: TAG });
  webhooks = new Webhooks(redis, deliveries);
});

afterEach(async () => {
  await consumer.close();
  await redis.flushall();
});

afterAll(async () => {
  await deliveries.close();
  redis.disconnect();
  await server.stop();
});

function consume(
  run: JobConsumerDeps["engine"]["run"],
  changes: Partial<JobConsumerDeps> = {},
): JobConsumer {
  const { publisher } = webhooks;
  consumer = startJobConsumer({
    connection: redis,
    workerId: crypto.randomUUID(),
    served: new Map([["atlas-qa", "weights"]]),
    throughput: new ThroughputMeter(1),
    store,
    publisher,
    readJob: (record: JobRecord) => readJob(record, jobSources(redis, store)),
    log,
    attemptsMax: 9,
    engine: { run },
    metrics,
    slots: new Slots(1),
    leaseMs: 5_000,
    ...changes,
  });
  return consumer;
}

const WAIT = { timeout: 30_000, interval: 5 };

/** Submits a job and waits until it has ended and its webhook is queued. */
async function run(changes: Partial<NewJob>) {
  const job = newJob(changes);
  await store.submit(job);
  await vi.waitUntil(async () => (await store.record(job.id))?.endedAtMs != null, WAIT);
  await vi.waitUntil(() => consumer.running === 0, WAIT);
  return { record: await store.record(job.id), delivery: await deliveryOf(job.id) };
}

async function deliveryOf(jobId: string): Promise<unknown> {
  const id = `${jobId.replace("job_", "msg_")}-job`;
  if (!(await deliveries.getJob(`${id}-1`))) return undefined;
  return JSON.parse((await webhooks.deliveries.body("acme", id)) ?? "null");
}

test("the webhook of an ended job is queued with the job's result", async () => {
  consume(async function* () {
    yield { type: "token", token: 1, text: "hi", baseCalls: 1 };
    yield { type: "end", finish: "stop", usage: NO_USAGE };
  });
  const { record, delivery } = await run({ webhookUrl: WEBHOOK });
  expect(record).toMatchObject({ state: "succeeded", text: "hi" });
  expect(delivery).toMatchObject({
    type: "job.succeeded",
    data: { id: record?.id, output: { text: "hi", finish_reason: "stop" } },
  });
});

test("a job without a webhook URL gets no webhook, and its end is counted", async () => {
  consume(async function* () {
    yield { type: "end", finish: "stop", usage: NO_USAGE };
  });
  metrics.registry.resetMetrics();
  expect((await run({})).delivery).toBeUndefined();
  expect(await metrics.registry.getSingleMetricAsString("trimtab_jobs_ended_total")).toContain(
    '{state="succeeded",model="atlas-qa",base=""} 1',
  );
});

test("a job's log lines name its request and its trace", async () => {
  consume(async function* () {
    yield { type: "end", finish: "stop", usage: NO_USAGE };
  });
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const { record } = await run({ requestOptions: { traceparent, requestId: "req_1" } });
  const logged = lines
    .map((line) => JSON.parse(line) as object)
    .filter((line) => "job" in line && line.job === record?.id);
  const context = { request: "req_1", traceparent, attempt: 1 };
  expect(logged).toMatchObject([
    { ...context, msg: "Job started" },
    { ...context, msg: "Job ended", state: "succeeded" },
  ]);
});

test("a failed attempt is repeated and resumes from the tokens in the log", async () => {
  const resumed: number[] = [];
  consume(async function* (_tenant, _generation, resume) {
    resumed.push(resume.length);
    yield { type: "token", token: 1, text: "a", baseCalls: 1 };
    if (resumed.length === 1) throw new Error("a bug");
    yield { type: "end", finish: "length", usage: NO_USAGE };
  });
  const { record } = await run({});
  expect(record).toMatchObject({ state: "succeeded", attempt: 2 });
  expect(resumed).toEqual([0, 1]);
});

test("a job whose third attempt throws fails; its webhook hides the details of the error", async () => {
  // oxlint-disable-next-line require-yield
  consume(async function* () {
    throw new Error("a bug in line 7");
  });
  const { record, delivery } = await run({ webhookUrl: WEBHOOK });
  const error = { code: "internal", message: "The job could not be run" };
  expect(record).toMatchObject({ state: "failed", attempt: 3, outcome: { error } });
  expect(delivery).toMatchObject({ type: "job.failed", data: { error } });
});

test("a job that another worker has claimed meanwhile is left to that worker", async () => {
  // oxlint-disable-next-line require-yield
  consume(async function* () {
    await claimJob(redis, "job_lost");
    throw new Error("a bug");
  });
  await store.submit(newJob({ id: "job_lost" }));
  await vi.waitUntil(async () => (await store.record("job_lost"))?.attempt === 2, WAIT);
  await vi.waitUntil(() => consumer.running === 0, WAIT);
  expect(await store.record("job_lost")).toMatchObject({ state: "running", attempt: 2 });
});

async function running(changes: Partial<NewJob> = {}): Promise<string> {
  const job = newJob(changes);
  await store.submit(job);
  await vi.waitUntil(() => consumer.running === 1, WAIT);
  return job.id;
}

test("a signal stops a running job that has no token yet: cancelled or deleted", async () => {
  // The lease is not renewed during the test, so only a signal can tell the worker.
  consume(silentEngine, { leaseMs: 600_000 });
  const cancelled = await running();
  expect(await store.cancel(cancelled)).toBe("requested");
  await vi.waitUntil(() => consumer.running === 0, WAIT);
  expect(await store.record(cancelled)).toMatchObject({ state: "cancelled" });
  const deleted = await running();
  await store.delete(deleted);
  await vi.waitUntil(() => consumer.running === 0, WAIT);
  expect(await store.record(deleted)).toBeNull();
});

test("a renewal stops a job whose signal was lost", async () => {
  consume(silentEngine, { leaseMs: 300 });
  const id = await running();
  await redis.hset(jobKey(id), "cancelRequested", "1");
  await vi.waitUntil(() => consumer.running === 0, WAIT);
  expect(await store.record(id)).toMatchObject({ state: "cancelled" });
});

test("a job expires at its deadline while it has no token", async () => {
  consume(silentEngine);
  const id = await running({ deadlineInMs: 100 });
  await vi.waitUntil(() => consumer.running === 0, WAIT);
  expect(await store.record(id)).toMatchObject({ state: "expired" });
});

test("a job whose last tokens Redis lost in a failover is continued at once from the tokens that are left", async () => {
  let id = "";
  const resumed: number[] = [];
  const run: JobConsumerDeps["engine"]["run"] = async function* (_tenant, _generation, resume) {
    resumed.push(resume.length);
    for (let token = resume.length; token < 3; token++) {
      if (token === 2 && resumed.length === 1) {
        await vi.waitUntil(async () => (await store.record(id))?.tokens === 2, WAIT);
        await redis.xdel(logKey(id), "4-0");
        await redis.hset(jobKey(id), { tokens: 1, seq: 4 });
      }
      yield { type: "token", token, text: `<${token}>`, baseCalls: 1 };
      // Each token is an event of its own.
      await vi.waitUntil(async () => ((await store.record(id))?.seq ?? 0) > 3 + token - 1, WAIT);
    }
    yield { type: "end", finish: "stop", usage: NO_USAGE };
  };
  // Its lease does not expire during the test.
  consume(run, { leaseMs: 600_000 });
  const job = newJob({});
  ({ id } = job);
  await store.submit(job);
  await vi.waitUntil(async () => (await store.record(id))?.state === "succeeded", WAIT);
  expect(resumed).toEqual([0, 1]);
  expect((await store.progress(id)).ids).toEqual([0, 1, 2]);
});

test("a worker takes only jobs of lanes that it serves", async () => {
  consume(silentEngine, { slots: new Slots(4) });
  const other = newJob({ generation: generation({ model: "gsm-mini" }) });
  const pairs = [{ model: "gsm-mini", weight: 1 }];
  const mixed = newJob({ generation: generation({ pairs }) });
  await store.submit(other);
  await store.submit(mixed);
  await running();
  for (const { id } of [other, mixed]) {
    expect(await store.record(id)).toMatchObject({ state: "queued" });
  }
  await consumer.release();
});

test("a worker finds a lane of several of its ensembles by its signal", async () => {
  const served = new Map([
    ["atlas-qa", "a"],
    ["gsm-mini", "b"],
  ]);
  consume(silentEngine, { served });
  await consumer.waitUntilReady();
  const pairs = [{ model: "gsm-mini", weight: 1 }];
  const id = await running({ generation: generation({ pairs }) });
  expect(await store.record(id)).toMatchObject({ lane: "atlas-qa+gsm-mini", fingerprint: "a+b" });
  await consumer.release();
});

test("a worker that gives up its jobs renews no lease of them, though their runs take a while to end", async () => {
  const run: JobConsumerDeps["engine"]["run"] = async function* () {
    yield { type: "token", token: 1, text: "a", baseCalls: 1 };
    await new Promise(() => {});
  };
  const first = consume(run, { leaseMs: 30_000 });
  const id = await running();
  await vi.waitUntil(async () => (await store.record(id))?.tokens === 1, WAIT);
  await first.release();
  // The reconnection of the channel of signals renews all leases.
  await redis.call("CLIENT", "KILL", "TYPE", "pubsub");
  await first.waitUntilReady();
  await vi.waitUntil(() => first.running === 0, WAIT);
  const [, expiresMs] = await redis.zrange(
    `${LEASES_PREFIX}weights++atlas-qa`,
    "0",
    "0",
    "WITHSCORES",
  );
  expect(Number(expiresMs)).toBeLessThanOrEqual(Date.now());
});

test("a claim whose reply arrives after the worker has given up its jobs is given up too", async () => {
  const late = redis.duplicate();
  const evalsha = late.evalsha.bind(late) as (...args: unknown[]) => Promise<unknown>;
  const claimed = Promise.withResolvers<void>();
  const answered = Promise.withResolvers<void>();
  late.evalsha = async (...args: unknown[]) => {
    const reply = await evalsha(...args);
    if (!Array.isArray(reply) || reply[0] !== "claimed") return reply;
    claimed.resolve();
    await answered.promise;
    return reply;
  };
  const first = consume(silentEngine, { connection: late, leaseMs: 600_000 });
  const job = newJob({});
  await store.submit(job);
  await claimed.promise;
  const released = first.release();
  answered.resolve();
  await released;
  await first.close();
  late.disconnect();
  const [, expiresMs] = await redis.zrange(`${LEASES_PREFIX}++atlas-qa`, "0", "0", "WITHSCORES");
  expect(Number(expiresMs)).toBeLessThanOrEqual(Date.now());
  expect(await redis.hget(jobKey(job.id), "claimedTokens")).toBe("-1");
});

test("a worker that closes while it looks for lanes takes no job any more", async () => {
  const { connection, looking, answer } = slowLookups(redis);
  const job = newJob({});
  await store.submit(job);
  consume(silentEngine, { connection });
  await looking;
  const closed = consumer.close();
  answer();
  await closed;
  connection.disconnect();
  expect(await store.record(job.id)).toMatchObject({ state: "queued", attempt: 0 });
});

test("jobs that a worker gives up are continued at once, and count as neither suspects nor takeovers", async () => {
  const first = consume(silentEngine, { leaseMs: 600_000 });
  const id = await running();
  metrics.registry.resetMetrics();
  lines.length = 0;
  await first.release();
  await first.close();
  consume(async function* () {
    yield { type: "end", finish: "stop", usage: NO_USAGE };
  });
  await vi.waitUntil(async () => (await store.record(id))?.state === "succeeded", WAIT);
  expect(await redis.hget(jobKey(id), "lostAttempts")).toBe("0");
  expect(await metrics.registry.getSingleMetricAsString("trimtab_takeovers_total")).not.toMatch(
    /^trimtab_takeovers_total/m,
  );
  expect(lines.map((line) => (JSON.parse(line) as { msg: string }).msg)).toEqual(
    expect.arrayContaining([
      "Attempt stopped: this worker may not write to the job any more",
      "Job continued: its last attempt was given up",
    ]),
  );
});
