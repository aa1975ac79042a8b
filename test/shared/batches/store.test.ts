/** Results of a batch when Redis cannot hold more. */
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { ResultFileFull } from "../../../shared/batches/result-file-full.ts";
import { BatchStore, resultFileId } from "../../../shared/batches/store.ts";
import { newId } from "../../../shared/ids.ts";
import { NEVER_RAN } from "../../../shared/jobs/store.ts";
import { LIMITS } from "../../../shared/api/limits.ts";
import { contentKey, fileRoomKey } from "../../../shared/redis/keys.ts";

const MIB = 2 ** 20;
const openLine = { customId: "a", n: 1 };

let server: RedisServer;
let redis: Redis;
let batches: BatchStore;
let id: string;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  batches = new BatchStore(redis);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** A batch whose first line is open. */
beforeEach(async () => {
  id = newId("batch");
  await batches.create({
    id,
    tenant: "acme",
    keyId: "key",
    endpoint: "/v1/completions",
    inputFileId: "file",
    metadata: {},
    fileSeconds: 3_600,
  });
  await batches.advance(
    { id, tenant: "acme", offset: 0 },
    { offset: 10, line: 1 },
    { open: openLine },
  );
});

const close = () =>
  batches.closeLine({ id, tenant: "acme" }, 1, "completed", { text: "hello" }, NEVER_RAN.usage);
const output = () => contentKey(resultFileId(id, "output"));

test("a line whose result does not fit into its file stays open, and is not counted", async () => {
  await redis.config("SET", "proto-max-bulk-len", String(MIB));
  await redis.setrange(output(), MIB - 3, "end");
  await expect(close()).rejects.toThrow(ResultFileFull);
  expect(await batches.openLines(id)).toEqual(new Map([[1, openLine]]));
  expect(await batches.get(id)).toMatchObject({ completed: 0 });
  await redis.del(output());
  await close();
  expect(await batches.openLines(id)).toEqual(new Map());
  expect(await batches.get(id)).toMatchObject({ completed: 1 });
});

test("a failed line whose result does not fit is read again", async () => {
  await redis.config("SET", "proto-max-bulk-len", String(MIB));
  await redis.setrange(contentKey(resultFileId(id, "error")), MIB - 3, "end");
  const advance = batches.advance(
    { id, tenant: "acme", offset: 10 },
    { offset: 20, line: 2 },
    { failed: {} },
  );
  await expect(advance).rejects.toThrow(ResultFileFull);
  expect(await batches.get(id)).toMatchObject({ offset: 10, line: 1, failed: 0 });
});

test("the result files of a tenant have a limit together", async () => {
  const room = fileRoomKey("acme");
  await redis.hset(room, "batch_output", LIMITS.resultsInRedisBytesMax - 20);
  await close();
  expect(await redis.hget(room, resultFileId(id, "output"))).toBe("17");
  await batches.advance(
    { id, tenant: "acme", offset: 10 },
    { offset: 20, line: 2 },
    { open: openLine },
  );
  const second = batches.closeLine({ id, tenant: "acme" }, 2, "completed", {}, NEVER_RAN.usage);
  await second;
  const third = batches.advance(
    { id, tenant: "acme", offset: 20 },
    { offset: 30, line: 3 },
    { failed: {} },
  );
  await expect(third).rejects.toThrow(ResultFileFull);
  expect(await batches.get(id)).toMatchObject({ completed: 2, failed: 0, offset: 20 });
  await redis.del(room);
});

test("a line is closed with its result although Redis has no memory left, and only once", async () => {
  await redis.config("SET", "maxmemory", "1");
  try {
    await expect(redis.set("x", "y")).rejects.toThrow("OOM");
    await close();
    await close();
  } finally {
    await redis.config("SET", "maxmemory", "0");
  }
  expect(await redis.get(output())).toBe('{"text":"hello"}\n');
  expect(await batches.get(id)).toMatchObject({ completed: 1 });
});
