import { once } from "node:events";
import { Queue, type Worker } from "bullmq";
import type { Redis } from "ioredis";
import { pino } from "pino";
import { Webhook } from "standardwebhooks";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { newId } from "../../shared/api-key.ts";
import type { DeliveryPayload } from "../../shared/job.ts";
import { JobStore } from "../../shared/job-store.ts";
import { deliveriesKey, DELIVERY_QUEUE, QUEUE_PREFIX, tenantKey } from "../../shared/redis-keys.ts";
import { startDeliverer } from "../../worker/deliverer.ts";
import { connect } from "../../worker/redis.ts";
import { startReceiver, type Receiver } from "../support/receiver.ts";

const SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const log = pino({ level: "silent" });

let server: RedisServer;
let redis: Redis;
let queue: Queue;
let deliverer: Worker;
let receiver: Receiver;

beforeAll(async () => {
  server = await startRedis();
  redis = connect(server.url, log);
  await redis.hset(tenantKey("acme"), "webhookSecret", SECRET);
  queue = new Queue(DELIVERY_QUEUE, { connection: redis, prefix: QUEUE_PREFIX });
  deliverer = startDeliverer({ connection: redis, store: new JobStore(redis, 60_000), log });
});

afterEach(async () => {
  await receiver?.stop();
});

afterAll(async () => {
  await deliverer.close();
  await queue.close();
  redis.disconnect();
  await server.stop();
});

/** Queues a delivery that is repeated at once, and waits for its last attempt. */
async function deliver(attempts: number, changes: Partial<DeliveryPayload> = {}) {
  const jobId = newId("job");
  const body = JSON.stringify({ type: "job.succeeded", data: { id: jobId, text: "é" } });
  const ended = Promise.race([once(deliverer, "completed"), failedFor(attempts)]);
  const payload = { jobId, tenant: "acme", url: receiver.url, body, ...changes };
  await queue.add("webhook", payload, { attempts });
  await ended;
  const deliveries = await redis.lrange(deliveriesKey(jobId), 0, -1);
  return { jobId, body, deliveries: deliveries.map((delivery) => JSON.parse(delivery) as unknown) };
}

async function failedFor(attempts: number): Promise<void> {
  for (let i = 0; i < attempts; i++) await once(deliverer, "failed");
}

test("a webhook is signed so that the Standard Webhooks library verifies it", async () => {
  receiver = await startReceiver(204);
  const { jobId, body, deliveries } = await deliver(1);
  const [request] = receiver.received;
  expect(request).toMatchObject({ path: "/hook", body });
  const headers = request!.headers as Record<string, string>;
  expect(headers).toMatchObject({
    "content-type": "application/json",
    "webhook-id": jobId.replace("job_", "msg_"),
  });
  expect(new Webhook(SECRET).verify(body, headers)).toEqual(JSON.parse(body));
  const foreign = new Webhook("whsec_AAAA9r8GKYqrTwjUPD8ILPZIo2LaLaSw");
  expect(() => foreign.verify(body, headers)).toThrow("signature");
  expect(deliveries).toEqual([
    {
      attempt: 1,
      at: expect.any(Number),
      status: 204,
      error: null,
      duration_ms: expect.any(Number),
    },
  ]);
});

test("what fails is sent again with the same id and body, and every attempt is recorded", async () => {
  receiver = await startReceiver(500, 503, 200);
  const { body, deliveries } = await deliver(5);
  expect(receiver.received.map((request) => request.body)).toEqual([body, body, body]);
  const ids = receiver.received.map(({ headers }) => headers["webhook-id"]);
  expect(new Set(ids).size).toBe(1);
  for (const { headers } of receiver.received) {
    new Webhook(SECRET).verify(body, headers as Record<string, string>);
  }
  expect(deliveries).toMatchObject([
    { attempt: 1, status: 500 },
    { attempt: 2, status: 503 },
    { attempt: 3, status: 200 },
  ]);
});

test("a redirect is a failure and is not followed", async () => {
  receiver = await startReceiver(302);
  const { deliveries } = await deliver(1);
  expect(receiver.received.map(({ path }) => path)).toEqual(["/hook"]);
  expect(deliveries).toMatchObject([{ status: 302, error: null }]);
});

test("a receiver that is not there is recorded with the reason", async () => {
  receiver = await startReceiver(200);
  await receiver.stop();
  const { deliveries } = await deliver(2);
  expect(deliveries).toMatchObject([
    { attempt: 1, status: null, error: "ECONNREFUSED" },
    { attempt: 2, status: null, error: "ECONNREFUSED" },
  ]);
});

test("nothing is sent unsigned: a tenant without secret gets no webhook, and no second attempt", async () => {
  receiver = await startReceiver(200);
  const failed = once(deliverer, "failed");
  void deliver(3, { tenant: "nobody" });
  expect(await failed).toMatchObject([
    { attemptsMade: 1 },
    { name: "UnrecoverableError" },
    "active",
  ]);
  expect(receiver.received).toEqual([]);
});
