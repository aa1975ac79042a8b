import { Redis } from "ioredis";
import { afterAll, expect, inject, test } from "vitest";
import { newId } from "../../../shared/ids.ts";
import { DeliveryStore } from "../../../shared/webhooks/delivery-store.ts";
import { LIMITS } from "../../../shared/api/limits.ts";
import { deliveriesBeforeEndKey, deliveriesKey } from "../../../shared/redis/keys.ts";
import { testMessage } from "../../../shared/webhooks/message.ts";

const redis = new Redis(inject("redisUrl"));
const store = new DeliveryStore(redis);
const attempt = { attempt: 1, at: 2, status: 200, error: null, duration_ms: 3 };

afterAll(() => redis.disconnect());

const TO = { endpointId: "ep_a", url: "https://example.com/" };
const create = (tenant: string) => store.create(tenant, testMessage("ep_a"), TO);

test("the newest deliveries are listed; older ones are deleted when they have ended", async () => {
  const tenant = newId("tenant");
  const over = await create(tenant);
  const pending = await create(tenant);
  // Deliveries created in the same millisecond have no order.
  for (const [score, { id }] of [over, pending].entries()) {
    await redis.zadd(deliveriesKey(tenant), score, id);
  }
  await store.recordAttempt(tenant, over, attempt, "delivered", null);
  await Promise.all(Array.from({ length: LIMITS.deliveriesListedMax - 1 }, () => create(tenant)));
  expect(await store.get(tenant, over.id)).toBeNull();
  expect(await store.attempts(tenant, over.id)).toEqual([]);
  await create(tenant);
  const ids = await store.ids(tenant);
  expect(ids).toHaveLength(LIMITS.deliveriesListedMax);
  expect(ids).not.toContain(pending.id);
  expect(await store.get(tenant, pending.id)).toMatchObject({ state: "pending" });
  await store.recordAttempt(tenant, pending, attempt, "pending", 5);
  expect(await store.attempts(tenant, pending.id)).toHaveLength(1);
  await store.recordAttempt(tenant, pending, { ...attempt, attempt: 2 }, "delivered", null);
  expect(await store.get(tenant, pending.id)).toBeNull();
});

test("messages about jobs that have not ended do not displace those about ends", async () => {
  const tenant = newId("tenant");
  const { id } = await create(tenant);
  const begin = (jobId: string) =>
    store.create(
      tenant,
      { id: `msg_${jobId}-started`, type: "job.started", body: "{}", jobId },
      TO,
    );
  const first = await begin("first");
  await redis.zadd(deliveriesKey(tenant), 0, id);
  await redis.zadd(deliveriesBeforeEndKey(tenant), 0, first.id);
  await Promise.all(Array.from({ length: LIMITS.deliveriesListedMax }, (_, i) => begin(String(i))));
  const ids = await store.ids(tenant);
  expect(ids).toHaveLength(LIMITS.deliveriesListedMax + 1);
  expect(ids.at(-1)).toBe(id);
  expect(ids).not.toContain(first.id);
  await store.recordAttempt(tenant, { id: ids[0]!, round: 1 }, attempt, "delivered", null);
  expect(await store.get(tenant, ids[0]!)).toMatchObject({ state: "delivered" });
  await store.delete(tenant, ids[0]!);
  expect(await store.ids(tenant)).toEqual(ids.slice(1));
});

test("only the latest attempts are kept", async () => {
  const tenant = newId("tenant");
  const delivery = await create(tenant);
  const most = LIMITS.deliveryAttemptsKeptMax;
  for (let n = 1; n <= most + 2; n++) {
    await store.recordAttempt(tenant, delivery, { ...attempt, attempt: n }, "pending", 5);
  }
  const attempts = await store.attempts(tenant, delivery.id);
  expect(attempts).toHaveLength(most);
  expect(attempts.at(-1)?.attempt).toBe(most + 2);
  expect(await store.get(tenant, delivery.id)).toMatchObject({ attempts: most + 2 });
});
