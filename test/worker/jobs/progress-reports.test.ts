/** Messages about jobs that have not ended: who gets them, how many there are, and that each is sent once. */
import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, afterEach, beforeAll, expect, test, vi } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { newId } from "../../../shared/ids.ts";
import { LIMITS } from "../../../shared/api/limits.ts";
import type { WebhookEvent } from "../../../shared/api/webhooks.ts";
import type { JobRecord, NewJob } from "../../../shared/jobs/record.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { DELIVERY_QUEUE, jobKey, TAG } from "../../../shared/redis/keys.ts";
import { JobRun } from "../../../worker/jobs/job-run.ts";
import { progressStep, reportProgress } from "../../../worker/jobs/progress-reports.ts";
import { connectRedis } from "../../../worker/redis/connection.ts";
import { claimJob } from "../../support/claim.ts";
import { generation, newJob } from "../../support/generation.ts";
import { endedJob } from "../../support/job.ts";
import { Webhooks } from "../../support/webhooks.ts";

const log = pino({ level: "silent" });
const WEBHOOK = "https://example.com/hook";

let server: RedisServer;
let redis: Redis;
let store: JobStore;
let queue: Queue;
let webhooks: Webhooks;
beforeAll(async () => {
  server = await startRedis();
  redis = connectRedis(server.url, log);
  store = new JobStore(redis, 60_000);
  queue = new Queue(DELIVERY_QUEUE, { connection: redis, prefix: TAG });
  webhooks = new Webhooks(redis, queue);
});
afterEach(() => redis.flushall());
afterAll(async () => {
  await queue.close();
  redis.disconnect();
  await server.stop();
});

/** A running job whose webhook URL gets these events. */
async function running(
  webhookEvents: WebhookEvent[] | undefined,
  changes: Partial<NewJob> = {},
): Promise<JobRecord> {
  const job = newJob({
    webhookUrl: WEBHOOK,
    generation: generation({ maxTokens: 512 }),
    requestOptions: { ...(webhookEvents && { webhookEvents }) },
    ...changes,
  });
  await store.submit(job);
  await claimJob(redis, job.id);
  return (await store.record(job.id))!;
}

/** The messages that are queued for the job's URL: their types and data. */
async function sent(record: JobRecord) {
  const ids = (await webhooks.deliveries.ids(record.tenant)).toReversed();
  const bodies = await Promise.all(ids.map((id) => webhooks.deliveries.body(record.tenant, id)));
  return bodies.map((body) => JSON.parse(body!) as { type: string; data: Record<string, unknown> });
}
const typesOf = async (record: JobRecord) => (await sent(record)).map(({ type }) => type);

/** Reports as a worker does, with a clock that the test moves. */
async function report(record: JobRecord) {
  const clock = { ms: 0 };
  const run = new JobRun(record);
  const publisher = {
    publishJobStart: vi.fn((job: JobRecord) => webhooks.publisher.publishJobStart(job)),
    publishJobProgress: vi.fn((job: JobRecord, tokens: number) =>
      webhooks.publisher.publishJobProgress(job, tokens),
    ),
  };
  const reports = reportProgress({ publisher, log, nowMs: () => clock.ms }, record, run);
  await publisher.publishJobStart.mock.results[0]!.value;
  /** More tokens are in the log, `ms` later. Waits for what is published because of them. */
  const logged = async (before: number, after: number, ms: number) => {
    clock.ms += ms;
    run.onLogged(before, after);
    await publisher.publishJobProgress.mock.results.at(-1)?.value;
    await new Promise(setImmediate);
  };
  return { logged, reports, publisher };
}

test("the start and the progress are sent to a URL that names them, with ids of their own", async () => {
  const record = await running(["job.started", "job.progress"], { metadata: { a: "b" } });
  const { logged } = await report(record);
  const step = progressStep(record.generation.maxTokens);
  await logged(0, 1, 0);
  await logged(1, step, 10);
  await logged(step, 2 * step + 1, 1_000);
  const { id, createdAtMs, startedAtMs } = record;
  const data = {
    id,
    object: "job",
    model: record.generation.model,
    state: "running",
    created_at: createdAtMs / 1000,
    started_at: startedAtMs! / 1000,
    metadata: { a: "b" },
  };
  const tokens = (completion_tokens: number) => {
    return { ...data, completion_tokens, max_tokens: record.generation.maxTokens };
  };
  expect(await sent(record)).toMatchObject([
    { type: "job.started", data },
    { type: "job.progress", data: tokens(step) },
    { type: "job.progress", data: tokens(2 * step + 1) },
  ]);
  expect(await webhooks.inbox.lastSeq(record.tenant)).toBe(0);
});

test("without its name in events, a receiver gets only the end", async () => {
  const record = await running(undefined);
  const create = (events: WebhookEvent[] | null) => {
    const endpoint = { id: newId("ep"), url: WEBHOOK, events, description: "", createdAtMs: 0 };
    return webhooks.endpoints.create(record.tenant, endpoint);
  };
  await create(null);
  const before = await report(record);
  await before.logged(0, 1_000, 5_000);
  expect(before.publisher.publishJobProgress).not.toHaveBeenCalled();
  expect(await typesOf(record)).toEqual([]);
  await create(["job.progress", "job.failed"]);
  const { logged } = await report(record);
  await logged(0, 1_000, 5_000);
  expect(await typesOf(record)).toEqual(["job.progress"]);
  const job = endedJob({ id: record.id, webhook: { url: WEBHOOK, deliveries: [] } });
  await webhooks.publisher.publishJobEnd(record, job);
  const ends = ["job.succeeded", "job.succeeded"];
  expect(await typesOf(record)).toEqual(["job.progress", ...ends]);
});

test("the start is sent once, whatever is lost: by the next worker, or with the end", async () => {
  const record = await running(["job.started"]);
  await report(record);
  // The list of deliveries has moved on, so that only the job itself knows.
  for (const id of await webhooks.deliveries.ids(record.tenant)) {
    await webhooks.deliveries.delete(record.tenant, id);
  }
  await report(record);
  const job = endedJob({ id: record.id, webhook: { url: WEBHOOK, deliveries: [] } });
  await webhooks.publisher.publishJobEnd(record, job);
  expect(await typesOf(record)).toEqual([]);
  const lost = await running(["job.started", "job.succeeded"]);
  const end = endedJob({ id: lost.id, webhook: { url: WEBHOOK, deliveries: [] } });
  await webhooks.publisher.publishJobEnd(lost, end);
  await webhooks.publisher.publishJobEnd(lost, end);
  expect(await typesOf(lost)).toEqual(["job.started", "job.succeeded"]);
});

test("a burst is bounded: for a job by steps and time, for a tenant by messages a minute", async () => {
  const record = await running(["job.progress"]);
  const { maxTokens } = record.generation;
  const { logged, reports, publisher } = await report(record);
  // A second for each token: as many messages as there are steps.
  for (let at = 0; at < maxTokens; at++) await logged(at, at + 1, 1_000);
  const steps = Math.floor(maxTokens / progressStep(maxTokens));
  expect(steps).toBeLessThanOrEqual(LIMITS.progressMessagesMax);
  expect(publisher.publishJobProgress).toHaveBeenCalledTimes(steps);
  // All tokens at once: only the first step.
  const fast = await report(await running(["job.progress"]));
  for (let at = 0; at < maxTokens; at++) await fast.logged(at, at + 1, at === 0 ? 2_000 : 0);
  expect(fast.publisher.publishJobProgress).toHaveBeenCalledTimes(1);
  reports.stop();
  await logged(0, maxTokens, 5_000);
  expect(publisher.publishJobProgress).toHaveBeenCalledTimes(steps);
  for (let tokens = 1; tokens <= LIMITS.progressMessagesPerMinuteMax; tokens++) {
    await webhooks.publisher.publishJobProgress(record, 100_000 + tokens);
  }
  expect((await typesOf(record)).length).toBe(LIMITS.progressMessagesPerMinuteMax);
});

test("a message that is being queued delays nothing, and the next step does not wait for it", async () => {
  const record = await running(["job.progress"]);
  const stuck = Promise.withResolvers<void>();
  const publisher = {
    publishJobStart: () => Promise.resolve(true),
    publishJobProgress: vi.fn(() => stuck.promise),
  };
  const run = new JobRun(record);
  let ms = 0;
  reportProgress({ publisher, log, nowMs: () => ms }, record, run);
  await Promise.resolve();
  for (let at = 0; at < 500; at += 100, ms += 10_000) run.onLogged(at, at + 100);
  expect(publisher.publishJobProgress).toHaveBeenCalledTimes(1);
  stuck.resolve();
});

test("after a start that could not be published, the next step is published all the same", async () => {
  const record = await running(["job.progress"]);
  const publisher = {
    publishJobStart: vi.fn(() => Promise.reject(new Error("Redis is away"))),
    publishJobProgress: vi.fn(() => Promise.resolve()),
  };
  const run = new JobRun(record);
  reportProgress({ publisher, log, nowMs: () => 0 }, record, run);
  await new Promise(setImmediate);
  run.onLogged(0, 100);
  expect(publisher.publishJobProgress).toHaveBeenCalledTimes(1);
});

test("deleting a job deletes the messages about it, and none of another choice of its request", async () => {
  const events: WebhookEvent[] = ["job.started", "job.progress"];
  const record = await running(events);
  const choice = await running(events, { id: `${record.id}-1` });
  for (const each of [record, choice]) {
    await webhooks.publisher.publishJobStart(each);
    await webhooks.publisher.publishJobProgress(each, 64);
  }
  await webhooks.publisher.deleteJobMessages(record.tenant, record.id);
  const left = await sent(record);
  expect(left.map(({ data }) => data["id"])).toEqual([choice.id, choice.id]);
  expect(await redis.hget(jobKey(choice.id), "startPublished")).toBe("1");
});
