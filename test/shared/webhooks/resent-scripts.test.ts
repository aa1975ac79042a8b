/** A client that loses its connection before the reply sends a script again: the second run changes nothing. */
import type { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { connectRedis, startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { newId } from "../../../shared/ids.ts";
import { LIMITS } from "../../../shared/api/limits.ts";
import { signingKeysKey } from "../../../shared/redis/keys.ts";
import { DeliveryStore } from "../../../shared/webhooks/delivery-store.ts";
import { EndpointStore } from "../../../shared/webhooks/endpoint-store.ts";
import { rotateSigningKey } from "../../../shared/webhooks/scripts.ts";
import { newSigningKey } from "../../../shared/webhooks/signing.ts";
import { SigningStore } from "../../../shared/webhooks/signing-store.ts";

let server: RedisServer;
let redis: Redis;
let tenant: string;

beforeAll(async () => {
  server = await startRedis();
  redis = await connectRedis(server.url);
});
beforeEach(() => {
  tenant = newId("tenant");
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

test("an attempt is recorded once", async () => {
  const store = new DeliveryStore(redis);
  const message = { id: "msg_1", type: "job.succeeded", jobId: "job_1", body: "{}" };
  const to = { endpointId: null, url: "https://receiver.test/" };
  const { id, round } = await store.create(tenant, message, to);
  const attempt = { attempt: 1, at: 1, status: 500, error: null, duration_ms: 5 };
  for (let i = 0; i < 2; i++)
    await store.recordAttempt(tenant, { id, round }, attempt, "pending", 9);
  expect(await store.get(tenant, id)).toMatchObject({ attempts: 1 });
  expect(await store.attempts(tenant, id)).toEqual([attempt]);
});

test("a rotated signing key keeps the key before it", async () => {
  const store = new SigningStore(redis);
  const first = await store.create(tenant);
  const second = await newSigningKey(0);
  const args = [JSON.stringify(second), Date.now() + 60_000];
  for (let i = 0; i < 2; i++) await rotateSigningKey(redis, [signingKeysKey(tenant)], args);
  const ids = (await store.liveKeys(tenant)).map(({ id }) => id);
  expect(ids).toEqual([second.id, first!.id]);
});

test("the last endpoint that a tenant may have is created, not refused", async () => {
  const store = new EndpointStore(redis);
  const record = { url: "https://receiver.test/", events: null, description: "", createdAtMs: 1 };
  for (let i = 0; i < LIMITS.webhookEndpointsMax; i++) {
    expect(await store.create(tenant, { id: `ep_${i}`, ...record })).toBe(true);
  }
  const last = { id: `ep_${LIMITS.webhookEndpointsMax - 1}`, ...record };
  expect(await store.create(tenant, last)).toBe(true);
  expect(await store.create(tenant, { id: "ep_more", ...record })).toBe(false);
});
