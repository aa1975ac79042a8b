/** A worker's connections to its shards. Databases of one server stand for the Redis of several. */
import { pino } from "pino";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { connectRedis, startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { SHARD_KEY } from "../../shared/redis/keys.ts";
import { readEnv } from "../../worker/env.ts";
import { WorkerShard } from "../../worker/shard.ts";
import { Metrics } from "../../worker/telemetry/metrics.ts";

const log = pino({ level: "silent" });
const metrics = new Metrics({ version: "0", commit: "" });

let server: RedisServer;
beforeAll(async () => {
  server = await startRedis();
  const redis = await connectRedis(`${server.url}/1`);
  await new KeyRegistry(redis).create("old");
  redis.disconnect();
});
afterAll(() => server.stop());

/** Databases are not several shards for the configuration, because they share channels. */
function shardsOf(...databases: number[]): WorkerShard[] {
  const env = readEnv({ REDIS_URL: server.url, ROLES: "sweep" });
  const urls = databases.map((db) => `${server.url}/${db}`);
  return WorkerShard.connectAll({ ...env, REDIS_URL: urls.join(" ") }, log);
}

test("a worker refuses a Redis with old data in second place, and takes it as the first", async () => {
  const wrong = shardsOf(2, 1);
  await expect(wrong[1]!.open(metrics)).rejects.toThrow(
    "URL 2 of REDIS_URL leads to the Redis that was URL 1",
  );
  const right = shardsOf(1, 2);
  const opened = await Promise.all(right.map((each) => each.open(metrics)));
  expect(opened.map(({ shard }) => shard)).toEqual([0, 1]);
  expect(right.map(({ problem }) => problem)).toEqual([null, null]);
  right[1]!.close("a reason");
  expect(right[1]!.problem).toBe("Shard 1: a reason");
  for (const each of [...wrong, right[0]!]) each.close("the test ends");
});

test("a new shard waits for one that does not answer, and counts as away meanwhile", async () => {
  const env = readEnv({ REDIS_URL: server.url, ROLES: "sweep" });
  const urls = [`${server.url}/3`, "redis://127.0.0.1:1", `${server.url}/4`];
  const all = WorkerShard.connectAll({ ...env, REDIS_URL: urls.join(" ") }, log);
  onTestFinished(() => all.forEach((each) => each.close("the test ends")));
  const [first, , added] = all;
  await first!.open(metrics);
  let isOpen = false;
  void added!.open(metrics).then(() => (isOpen = true));
  await added!.away;
  expect(isOpen).toBe(false);
  expect(added!.problem).toBe("Shard 2: It is new and waits for shard 1");
});

test("a shard that knows its place neither waits for one that does not answer nor counts as away", async () => {
  const redis = await connectRedis(`${server.url}/5`);
  await redis.hset(SHARD_KEY, "number", 2);
  redis.disconnect();
  const env = readEnv({ REDIS_URL: server.url, ROLES: "sweep" });
  const urls = [`${server.url}/6`, "redis://127.0.0.1:1", `${server.url}/5`];
  const all = WorkerShard.connectAll({ ...env, REDIS_URL: urls.join(" ") }, log);
  onTestFinished(() => all.forEach((each) => each.close("the test ends")));
  const [first, silent, known] = all;
  await Promise.all([first!.open(metrics), known!.open(metrics), silent!.away]);
  const later = new Promise((resolve) => setImmediate(resolve, "later"));
  const isAway = [first!, known!].map((shard) => shard.away.then(() => "away"));
  expect(await Promise.race([...isAway, later])).toBe("later");
});
