/** Records of other releases: the one before is read, a newer one is recognised. */
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { BatchStore } from "../../../shared/batches/store.ts";
import { FileStore } from "../../../shared/files/store.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import {
  apiKeyKey,
  batchKey,
  deliveryKey,
  endpointsKey,
  filesKey,
} from "../../../shared/redis/keys.ts";
import { NewerRecord } from "../../../shared/redis/version.ts";
import { DeliveryStore } from "../../../shared/webhooks/delivery-store.ts";
import { EndpointStore } from "../../../shared/webhooks/endpoint-store.ts";
import { PREVIOUS_KEY_ID, restorePreviousRelease } from "../../support/releases/previous.ts";

const TENANT = "acme";

let server: RedisServer;
let redis: Redis;
beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
});
beforeEach(async () => {
  await redis.flushall();
  await restorePreviousRelease(redis);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

const readKey = () => new KeyRegistry(redis).get(PREVIOUS_KEY_ID);
const readFile = () => new FileStore(redis, null).get(TENANT, "file_in");
const readEndpoint = () => new EndpointStore(redis).get(TENANT, "we_1");
const readBatch = () => new BatchStore(redis).get("batch_open");
const readDelivery = () => new DeliveryStore(redis).get(TENANT, "msg_ended-we_1");

test("records of the previous release are read", async () => {
  expect(await readKey()).toMatchObject({
    version: 0,
    scopes: ["jobs:write", "jobs:read", "admin"],
    limits: { requests_per_minute: 60, models: ["atlas-qa"] },
    within: [],
  });
  expect(await readFile()).toMatchObject({ version: 0, name: "in.jsonl", place: "redis" });
  expect(await readEndpoint()).toMatchObject({ url: "https://example.com/hook", disabled: null });
  expect(await readBatch()).toMatchObject({
    version: 0,
    status: "validating",
    keyId: PREVIOUS_KEY_ID,
  });
  expect(await readDelivery()).toMatchObject({ version: 0, state: "pending", jobId: "job_ended" });
});

/** Changes a record: of a hash its fields, of JSON in a hash its members. */
async function change(key: string, id: string | null, fields: object): Promise<void> {
  if (id === null) return void (await redis.hset(key, fields));
  const record = JSON.parse((await redis.hget(key, id))!) as object;
  await redis.hset(key, id, JSON.stringify({ ...record, ...fields }));
}

const RECORDS = [
  ["a key", apiKeyKey(PREVIOUS_KEY_ID), null, readKey],
  ["a file", filesKey(TENANT), "file_in", readFile],
  ["an endpoint", endpointsKey(TENANT), "we_1", readEndpoint],
  ["a batch", batchKey("batch_open"), null, readBatch],
  ["a delivery", deliveryKey(TENANT, "msg_ended-we_1"), null, readDelivery],
] as const;

test.each(RECORDS)("%s with a higher version is of a newer release", async (_, key, id, read) => {
  await change(key, id, { version: 3 });
  await expect(read()).rejects.toThrow(NewerRecord);
});

// A delivery is read by the names of its fields, without its body: its version alone tells.
test.each(RECORDS.slice(0, 4))(
  "%s with an unknown field is of a newer release",
  async (_, key, id, read) => {
    await change(key, id, { color: "red" });
    await expect(read()).rejects.toThrow(NewerRecord);
  },
);

test("a wrong value of a known field is not taken for a newer release", async () => {
  await change(batchKey("batch_open"), null, { status: "?" });
  await expect(readBatch()).rejects.not.toThrow(NewerRecord);
});
