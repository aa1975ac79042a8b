import { once } from "node:events";
import { Queue, type Worker } from "bullmq";
import type { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { FairQueue } from "../../shared/fair-queue.ts";
import type { NewJob } from "../../shared/job.ts";
import { JobStore } from "../../shared/job-store.ts";
import { DELIVERY_QUEUE, GENERATION_QUEUE, QUEUE_PREFIX } from "../../shared/redis-keys.ts";
import { Webhooks } from "../../shared/webhooks.ts";
import { startConsumer, type ConsumerDeps } from "../../worker/consumer.ts";
import { NOTHING_USED } from "../../worker/engine/messages.ts";
import { Metrics } from "../../worker/metrics.ts";
import { PaceKeeper } from "../../worker/pace.ts";
import { connect } from "../../worker/redis.ts";
import { newJob } from "../support/generation.ts";

const lines: string[] = [];
const log = pino({}, { write: (line: string) => lines.push(line) });
const metrics = new Metrics();
const WEBHOOK = "https://example.com/hook";

let server: RedisServer;
let redis: Redis;
let store: JobStore;
let queue: FairQueue;
let jobs: Queue;
let deliveries: Queue;
let webhooks: Webhooks;
let consumer: Worker;

beforeAll(async () => {
  server = await startRedis();
  redis = connect(server.url, log);
  store = new JobStore(redis, 60_000);
  queue = new FairQueue(redis);
  jobs = new Queue(GENERATION_QUEUE, { connection: redis, prefix: QUEUE_PREFIX });
  deliveries = new Queue(DELIVERY_QUEUE, { connection: redis, prefix: QUEUE_PREFIX });
  webhooks = new Webhooks(redis, deliveries);
});

afterEach(async () => {
  await consumer.close();
});

afterAll(async () => {
  await Promise.all([jobs.close(), deliveries.close()]);
  redis.disconnect();
  await server.stop();
});

function consume(run: ConsumerDeps["engine"]["run"]): void {
  const { announcer } = webhooks;
  const deps = {
    connection: redis,
    pace: new PaceKeeper(1),
    store,
    queue,
    announcer,
    log,
    attemptsMax: 9,
  };
  consumer = startConsumer({ ...deps, engine: { run }, metrics, slots: 1, lockMs: 5_000 });
}

/** Submits a job and waits for the end of its last attempt. */
async function run(changes: Partial<NewJob>, attempts = 1) {
  const job = newJob(changes);
  await store.submit(job);
  const ended = Promise.race([once(consumer, "completed"), failedFor(attempts)]);
  await jobs.add("generate", {}, { attempts });
  await ended;
  return { record: await store.record(job.id), delivery: await deliveryOf(job.id) };
}

async function failedFor(attempts: number): Promise<void> {
  for (let i = 0; i < attempts; i++) await once(consumer, "failed");
}

async function deliveryOf(jobId: string): Promise<unknown> {
  const id = `${jobId.replace("job_", "msg_")}-job`;
  if (!(await deliveries.getJob(`${id}-1`))) return undefined;
  return JSON.parse((await webhooks.deliveries.body("acme", id)) ?? "null");
}

test("a job that ends has its webhook queued with its result", async () => {
  consume(async function* () {
    yield { type: "token", token: 1, text: "hi" };
    yield { type: "end", finish: "stop", used: NOTHING_USED };
  });
  const { record, delivery } = await run({ webhookUrl: WEBHOOK });
  expect(record).toMatchObject({ state: "succeeded", text: "hi" });
  expect(delivery).toMatchObject({
    type: "job.succeeded",
    data: { id: record?.id, output: { text: "hi", finish_reason: "stop" } },
  });
});

test("a job that asked for no webhook has none, and is counted", async () => {
  consume(async function* () {
    yield { type: "end", finish: "stop", used: NOTHING_USED };
  });
  metrics.registry.resetMetrics();
  expect((await run({})).delivery).toBeUndefined();
  expect(await metrics.registry.getSingleMetricAsString("trimtab_jobs_ended_total")).toContain(
    '{state="succeeded"} 1',
  );
});

test("what is logged of a job names the request and the trace that it belongs to", async () => {
  consume(async function* () {
    yield { type: "end", finish: "stop", used: NOTHING_USED };
  });
  const traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
  const { record } = await run({ asked: { traceparent, requestId: "req_1" } });
  const logged = lines
    .map((line) => JSON.parse(line) as object)
    .filter((line) => "job" in line && line.job === record?.id);
  const about = { request: "req_1", traceparent, attempt: 1 };
  expect(logged).toMatchObject([
    { ...about, msg: "job started" },
    { ...about, msg: "job ended", state: "succeeded" },
  ]);
});

test("an attempt that fails is repeated and takes the log as its start", async () => {
  const resumed: number[] = [];
  consume(async function* (_tenant, _generation, resume) {
    resumed.push(resume.length);
    yield { type: "token", token: 1, text: "a" };
    if (resumed.length === 1) throw new Error("a bug");
    yield { type: "end", finish: "length", used: NOTHING_USED };
  });
  const { record } = await run({}, 2);
  expect(record).toMatchObject({ state: "succeeded", attempt: 2 });
  expect(resumed).toEqual([0, 1]);
});

test("a job that no attempt could run fails, and its owner is told without the details", async () => {
  // oxlint-disable-next-line require-yield
  consume(async function* () {
    throw new Error("a bug in line 7");
  });
  const { record, delivery } = await run({ webhookUrl: WEBHOOK }, 2);
  const error = { code: "internal", message: "the job could not be run" };
  expect(record).toMatchObject({ state: "failed", attempt: 2, outcome: { error } });
  expect(delivery).toMatchObject({ type: "job.failed", data: { error } });
});

test("a job that another worker has by now is left to it", async () => {
  // oxlint-disable-next-line require-yield
  consume(async function* () {
    await store.claim("job_lost", 9);
    throw new Error("a bug");
  });
  const { record } = await run({ id: "job_lost" });
  expect(record).toMatchObject({ state: "running", attempt: 2 });
});
