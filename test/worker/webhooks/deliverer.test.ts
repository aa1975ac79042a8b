/** Deliveries through a real queue to a real receiver. The test makes retries due at once. */
import { Queue, type Worker } from "bullmq";
import type { Redis } from "ioredis";
import OpenAI from "openai";
import { pino } from "pino";
import { Webhook } from "standardwebhooks";
import * as v from "valibot";
import { afterAll, afterEach, beforeAll, beforeEach, expect, test, vi } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { newId } from "../../../shared/ids.ts";
import { DELIVERY_QUEUE, TAG, signingKeysKey } from "../../../shared/redis/keys.ts";
import { RETRY_DELAYS_MS } from "../../../shared/webhooks/retry-schedule.ts";
import type { WebhookEvent } from "../../../shared/api/webhooks.ts";
import { AddressList } from "../../../shared/webhooks/url.ts";
import { Webhooks } from "../../support/webhooks.ts";
import { startDeliverer } from "../../../worker/webhooks/deliverer.ts";
import { Metrics } from "../../../worker/telemetry/metrics.ts";
import { connectRedis } from "../../../worker/redis/connection.ts";
import { endedJob } from "../../support/job.ts";
import { startReceiver, type Receiver } from "../../support/receiver.ts";
import { headersOf, verifiesEd25519 } from "../../support/signature.ts";

const log = pino({ level: "silent" });
const HOUR_MS = 3_600_000;

let server: RedisServer;
let redis: Redis;
let queue: Queue;
let webhooks: Webhooks;
let deliverer: Worker;
let receiver: Receiver;
let tenant: string;

beforeAll(async () => {
  server = await startRedis();
  redis = connectRedis(server.url, log);
  queue = new Queue(DELIVERY_QUEUE, { connection: redis, prefix: TAG });
  webhooks = new Webhooks(redis, queue);
  const sending = { allowed: v.parse(AddressList, "127.0.0.1") };
  deliverer = startDeliverer({
    connection: redis,
    postOptions: sending,
    log,
    metrics: new Metrics({ version: "1.2.3", commit: "" }),
    lockMs: 5_000,
  });
});

beforeEach(async () => {
  tenant = newId("tenant");
  await webhooks.signing.create(tenant);
});

afterEach(async () => {
  vi.useRealTimers();
  await receiver.stop();
});

afterAll(async () => {
  await deliverer.close();
  await queue.close();
  redis.disconnect();
  await server.stop();
});

/** Publishes the end of a job that has the receiver as its webhook URL. @returns the delivery's id */
async function publishEndedJob(): Promise<string> {
  const job = endedJob({ webhook: { url: receiver.url, deliveries: [] } });
  await webhooks.publisher.publishJobEnd({ tenant, requestOptions: {} }, job);
  return `${job.id.replace("job_", "msg_")}-job`;
}

async function newEndpoint(events: WebhookEvent[] | null = null): Promise<string> {
  const id = newId("ep");
  const record = { id, url: receiver.url, events, description: "", createdAtMs: Date.now() };
  await webhooks.endpoints.create(tenant, record);
  return id;
}

/** Waits for the delivery's state and number of attempts. @returns the attempts */
async function until(id: string, state: string, count: number) {
  await vi.waitFor(async () => {
    const delivery = await webhooks.deliveries.get(tenant, id);
    expect(delivery).toMatchObject({ state, attempts: count });
  }, 10_000);
  return webhooks.deliveries.attempts(tenant, id);
}

/** Makes the delivery's next attempt due at once. @returns the delay that it had, in ms */
async function makeDue(id: string): Promise<number> {
  const job = await vi.waitUntil(
    async () => (await queue.getDelayed()).find(({ data }) => data.id === id),
    10_000,
  );
  const { delay } = job;
  await job.promote();
  return delay;
}

test("a webhook is signed with the secret and with the key pair, and its attempt is recorded", async () => {
  receiver = await startReceiver(204);
  const id = await publishEndedJob();
  const attempts = await until(id, "delivered", 1);
  const [request] = receiver.received;
  const headers = headersOf(request!);
  expect(request?.path).toBe("/hook");
  expect(headers).toMatchObject({
    "content-type": "application/json",
    "webhook-id": id.replace("-job", ""),
  });
  const [key] = await webhooks.signing.liveKeys(tenant);
  const { body } = request!;
  expect(new Webhook(key!.secret).verify(body, headers)).toEqual(JSON.parse(body));
  const openai = new OpenAI({ apiKey: "none" });
  expect(await openai.webhooks.unwrap(body, headers, key!.secret)).toEqual(JSON.parse(body));
  expect(verifiesEd25519(key!, request!)).toBe(true);
  expect(headers["webhook-signature"]).toMatch(/^v1,\S+ v1a,\S+$/);

  const other = newId("tenant");
  const foreign = await webhooks.signing.create(other);
  expect(() => new Webhook(foreign!.secret).verify(body, headers)).toThrow("signature");
  expect(verifiesEd25519(foreign!, request!)).toBe(false);
  expect(attempts).toEqual([
    {
      attempt: 1,
      at: expect.any(Number),
      status: 204,
      error: null,
      duration_ms: expect.any(Number),
    },
  ]);
});

test("while a key is rotated, both keys sign; afterwards only the new one does", async () => {
  receiver = await startReceiver(204);
  const [old] = await webhooks.signing.liveKeys(tenant);
  const young = await webhooks.signing.rotate(tenant, 60_000);
  await until(await publishEndedJob(), "delivered", 1);
  const [both] = receiver.received;
  for (const key of [old!, young]) {
    expect(() => new Webhook(key.secret).verify(both!.body, headersOf(both!))).not.toThrow();
    expect(verifiesEd25519(key, both!)).toBe(true);
  }
  await webhooks.signing.rotate(tenant, 0);
  await until(await publishEndedJob(), "delivered", 1);
  const alone = receiver.received[1]!;
  expect(headersOf(alone)["webhook-signature"]).toMatch(/^v1,\S+ v1a,\S+$/);
  expect(verifiesEd25519(young, alone)).toBe(false);
});

test("a failing webhook is sent ten times over 75 hours with the same id and body; then the endpoint is disabled", async () => {
  receiver = await startReceiver(500, 404, 302, 500);
  const endpoint = await newEndpoint();
  vi.useFakeTimers({ toFake: ["Date"] });
  const job = endedJob();
  await webhooks.publisher.publishJobEnd({ tenant, requestOptions: {} }, job);
  const id = `${job.id.replace("job_", "msg_")}-${endpoint}`;
  for (const [i, delayMs] of RETRY_DELAYS_MS.entries()) {
    await until(id, "pending", i + 1);
    expect((await webhooks.endpoints.get(tenant, endpoint))?.disabled).toBeNull();
    const waited = await makeDue(id);
    expect(waited).toBeGreaterThanOrEqual(delayMs);
    expect(waited).toBeLessThanOrEqual(1.1 * delayMs);
    vi.setSystemTime(Date.now() + waited);
  }
  const attempts = await until(id, "failed", RETRY_DELAYS_MS.length + 1);
  expect((attempts.at(-1)!.at - attempts[0]!.at) / 3600).toBeGreaterThan(75);
  expect(attempts.map(({ status }) => status).slice(0, 4)).toEqual([500, 404, 302, 500]);
  expect(new Set(receiver.received.map((request) => request.path)).size).toBe(1);
  expect(new Set(receiver.received.map((request) => request.body)).size).toBe(1);
  expect(new Set(receiver.received.map((r) => r.headers["webhook-id"])).size).toBe(1);
  expect(new Set(receiver.received.map((r) => r.headers["webhook-timestamp"])).size).toBe(10);
  await vi.waitFor(async () =>
    expect(await webhooks.endpoints.get(tenant, endpoint)).toMatchObject({
      disabled: { reason: "every attempt failed for 72 hours" },
    }),
  );
});

test("an endpoint that accepted a webhook in between is not disabled", async () => {
  receiver = await startReceiver(500, 200, 500);
  const endpoint = await newEndpoint();
  const failing = await webhooks.publisher.sendTest(tenant, (await one(endpoint))!);
  await until(failing, "pending", 1);
  const received = await webhooks.publisher.sendTest(tenant, (await one(endpoint))!);
  await until(received, "delivered", 1);
  vi.useFakeTimers({ toFake: ["Date"], now: Date.now() + 80 * HOUR_MS });
  await makeDue(failing);
  await until(failing, "pending", 2);
  expect((await one(endpoint))?.disabled).toBeNull();
});

const one = (endpoint: string) => webhooks.endpoints.get(tenant, endpoint);

test("a receiver may delay the next attempt with Retry-After", async () => {
  receiver = await startReceiver({ status: 503, headers: { "retry-after": "7200" } }, 200);
  const id = await publishEndedJob();
  await until(id, "pending", 1);
  expect(await makeDue(id)).toBeGreaterThanOrEqual(2 * HOUR_MS);
  await until(id, "delivered", 2);
});

test("status 410 ends the delivery and disables the endpoint, which gets nothing until it is enabled", async () => {
  receiver = await startReceiver(410, 204);
  const endpoint = await newEndpoint();
  const id = await webhooks.publisher.sendTest(tenant, (await one(endpoint))!);
  await until(id, "failed", 1);
  await vi.waitFor(async () =>
    expect((await one(endpoint))?.disabled?.reason).toBe("the receiver answered 410 Gone"),
  );
  await webhooks.publisher.publishJobEnd({ tenant, requestOptions: {} }, endedJob());
  expect(await webhooks.deliveries.ids(tenant)).toEqual([id]);

  await webhooks.endpoints.enable(tenant, endpoint);
  await webhooks.publisher.replay(tenant, id);
  const attempts = await until(id, "delivered", 2);
  expect(attempts.map(({ attempt, status }) => [attempt, status])).toEqual([
    [1, 410],
    [2, 204],
  ]);
});

test("status 410 from a job's own webhook URL ends that delivery", async () => {
  receiver = await startReceiver(410);
  const id = await publishEndedJob();
  await until(id, "failed", 1);
  await vi.waitFor(async () => expect(await queue.getJob(`${id}-1`)).toBeUndefined());
});

test("endpoints get the events that they subscribe to, and the job's own webhook URL gets its event too", async () => {
  receiver = await startReceiver(204);
  const all = await newEndpoint();
  const failures = await newEndpoint(["job.failed", "job.expired"]);
  const job = endedJob({ webhook: { url: receiver.url, deliveries: [] } });
  await webhooks.publisher.publishJobEnd({ tenant, requestOptions: {} }, job);
  // As if a process crashed in between and another one repeated it.
  await webhooks.publisher.publishJobEnd({ tenant, requestOptions: {} }, job);
  const message = job.id.replace("job_", "msg_");
  for (const to of [all, "job"]) await until(`${message}-${to}`, "delivered", 1);
  expect(await webhooks.deliveries.get(tenant, `${message}-${failures}`)).toBeNull();
  const ids = receiver.received.map(({ headers }) => headers["webhook-id"]);
  expect(ids).toEqual([message, message]);
  expect(await webhooks.inbox.read(tenant, 0, 9)).toMatchObject([{ seq: 1, id: message }]);
});

test("pending deliveries follow a changed endpoint URL, and end when the endpoint is deleted", async () => {
  receiver = await startReceiver(500, 204);
  const endpoint = await newEndpoint();
  const { disabled: _, ...record } = (await one(endpoint))!;
  const [moved, dropped] = [
    await webhooks.publisher.sendTest(tenant, { ...record, disabled: null }),
    await webhooks.publisher.sendTest(tenant, { ...record, disabled: null }),
  ];
  await vi.waitFor(() => expect(receiver.received).toHaveLength(2));
  const elsewhere = await startReceiver(500, 204);
  await webhooks.endpoints.update(tenant, { ...record, url: elsewhere.url });
  await webhooks.publisher.replay(tenant, moved);
  await vi.waitFor(() => expect(elsewhere.received).toHaveLength(1));
  await webhooks.endpoints.delete(tenant, endpoint);
  await webhooks.publisher.replay(tenant, dropped);
  await vi.waitFor(async () =>
    expect((await webhooks.deliveries.attempts(tenant, dropped)).at(-1)).toMatchObject({
      status: null,
      error: "The endpoint was deleted",
    }),
  );
  expect(elsewhere.received).toHaveLength(1);
  await elsewhere.stop();
});

test("pending deliveries of an endpoint that is disabled fail, with the reason", async () => {
  receiver = await startReceiver(500);
  const endpoint = await newEndpoint();
  const id = await webhooks.publisher.sendTest(tenant, (await one(endpoint))!);
  await until(id, "pending", 1);
  await webhooks.endpoints.disable(tenant, endpoint, "disabled by its owner");
  await makeDue(id);
  const [, last] = await until(id, "failed", 2);
  expect(last).toMatchObject({ attempt: 2, status: null, error: "The endpoint is disabled" });
  expect(receiver.received).toHaveLength(1);
});

test("a replay starts a new schedule, and the old schedule's attempt does nothing", async () => {
  receiver = await startReceiver(500);
  const id = await publishEndedJob();
  await until(id, "pending", 1);
  await webhooks.publisher.replay(tenant, id);
  await until(id, "pending", 2);
  const rounds = await vi.waitUntil(async () => {
    const jobs = (await queue.getDelayed()).filter(({ data }) => data.id === id);
    return jobs.length === 2 && jobs;
  });
  await rounds.find(({ data }) => data.round === 1)!.promote();
  await vi.waitFor(async () => expect(await queue.getJob(`${id}-1`)).toBeUndefined());
  expect(receiver.received).toHaveLength(2);
  expect(await webhooks.deliveries.get(tenant, id)).toMatchObject({ state: "pending", round: 2 });
});

test("an attempt without a receiver is recorded with the reason", async () => {
  receiver = await startReceiver(200);
  await receiver.stop();
  const id = await publishEndedJob();
  expect(await until(id, "pending", 1)).toMatchObject([{ status: null, error: "ECONNREFUSED" }]);
});

test("a URL of a private address is recorded as such, and no connection is made", async () => {
  receiver = await startReceiver(200);
  const url = receiver.url.replace("127.0.0.1", "127.0.0.3");
  const job = endedJob({ webhook: { url, deliveries: [] } });
  await webhooks.publisher.publishJobEnd({ tenant, requestOptions: {} }, job);
  const attempts = await until(`${job.id.replace("job_", "msg_")}-job`, "pending", 1);
  expect(attempts[0]?.error).toMatch(/private, local or reserved/);
});

test("without a signing key nothing is sent", async () => {
  receiver = await startReceiver(200);
  await redis.del(signingKeysKey(tenant));
  const id = await publishEndedJob();
  const attempts = await until(id, "failed", 1);
  expect(attempts).toMatchObject([{ error: "There is no key to sign with" }]);
  expect(receiver.received).toEqual([]);
});
