/** The numbers of shards. Databases of one server stand for the Redis of several. */
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test } from "vitest";
import type { Redis } from "ioredis";
import { connectRedis, startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { SHARD_KEY } from "../../../shared/redis/keys.ts";
import { checkShard, listProblems, shardNumber, tellCount } from "../../../shared/redis/shards.ts";

let server: RedisServer;
let a: Redis, b: Redis, c: Redis;
beforeAll(async () => {
  server = await startRedis();
  [a, b, c] = (await Promise.all([0, 1, 2].map((db) => connectRedis(`${server.url}/${db}`)))) as [
    Redis,
    Redis,
    Redis,
  ];
});
beforeEach(() => a.flushall());
afterAll(async () => {
  for (const redis of [a, b, c]) redis.disconnect();
  await server.stop();
});

/** Checks all, as a process that starts with these URLs. */
const check = (...all: Redis[]) =>
  Promise.all(all.map((redis, place) => checkShard(redis, place, all.length, async () => all)));

const numbers = () => Promise.all([a, b, c].map((redis) => shardNumber(redis)));

test("a new Redis gets the number of its place, and keeps it", async () => {
  expect(await check(a, b)).toEqual([null, null]);
  expect(await check(a, b, c)).toEqual([null, null, null]);
  expect(await numbers()).toEqual([0, 1, 2]);
  expect(await check(a, c, b)).toEqual([
    null,
    expect.stringContaining("URL 2 of REDIS_URL leads to the Redis that was URL 3: "),
    expect.stringContaining("URL 3 of REDIS_URL leads to the Redis that was URL 2: "),
  ]);
});

test("a Redis with API keys that was alone can only be the first, and the right order works after a wrong one", async () => {
  await new KeyRegistry(a).create("old");
  const [, refusal] = await check(b, a);
  expect(refusal).toBe(
    "URL 2 of REDIS_URL leads to the Redis that was URL 1: the order must not change. If that Redis has no data, this makes it new: HDEL {trimtab}:shard number count",
  );
  expect(await check(a, b)).toEqual([null, null]);
});

test("a wrong list numbers none of its new Redis", async () => {
  await check(a, b);
  const [, ofNew, ofKnown] = await check(a, c, b);
  expect(ofNew).toBe(ofKnown);
  expect(ofKnown).toContain("URL 3 of REDIS_URL leads to the Redis that was URL 2: ");
  expect(await check(a, b, c)).toEqual([null, null, null]);
});

test("a list without a shard that has tenants is refused, until the others are told that it is given up", async () => {
  await check(a, b, c);
  expect(await check(a, b)).toEqual([null, null]);
  await new KeyRegistry(c, 2).create("new");
  await tellCount([a, b, c]);
  const message =
    "REDIS_URL has 2 of 3 URLs that had tenants: give them all, in the same order. If the others have none any more, or to give these up: " +
    "stop all processes with a longer list, then tell each Redis of the list: HSET {trimtab}:shard count 2";
  expect(await check(a, b)).toEqual([message, message]);
  expect(await check(b)).toEqual([
    "REDIS_URL leads to the Redis that was URL 2 of several: give them all, in the same order",
  ]);
  await a.hset(SHARD_KEY, "count", 1);
  expect(await check(a)).toEqual([null]);
});

test("shards of a release that did not count them serve at once, and count when all answer", async () => {
  await new KeyRegistry(a).create("old");
  await new KeyRegistry(b, 1).create("new");
  await b.hset(SHARD_KEY, "number", 1);
  const silent = Promise.withResolvers<readonly Redis[]>();
  const wait = () => silent.promise;
  expect(await checkShard(a, 0, 2, wait)).toBeNull();
  expect(await checkShard(b, 1, 2, wait)).toBeNull();
  const missing = async () => (await listProblems(a, 0, 1)).length;
  expect(await missing()).toBeNull();
  silent.resolve([a, b]);
  await expect.poll(missing).toContain("REDIS_URL has 1 of 2 URLs ");
});

test("a shard is added while another one takes no writes, and the others learn of tenants", async () => {
  await a.call("ACL", "SETUSER", "full", "on", "nopass", "~*", "&*", "+@all", "-hset");
  const url = new URL(`${server.url}/1`);
  url.username = "full";
  url.password = "any";
  const full = await connectRedis(url.href);
  onTestFinished(() => full.disconnect());
  await new KeyRegistry(a).create("old");
  await new KeyRegistry(b, 1).create("old");
  await b.hset(SHARD_KEY, "number", 1);
  expect(await check(a, full, c)).toEqual([null, null, null]);
  expect(await numbers()).toEqual([0, 1, 2]);
  expect(await tellCount([a, full, c])).toBe(false);
  expect((await listProblems(a, 0, 1)).length).toContain("REDIS_URL has 1 of 2 URLs ");
});

test("the last shard is taken away when its keys are revoked and the others are told", async () => {
  await check(a, b);
  const keys = new KeyRegistry(b, 1);
  const { id } = await keys.create("new");
  await tellCount([a, b]);
  await keys.revoke(id);
  // A shard without keys can still have jobs: the count stays.
  expect(await tellCount([a, b])).toBe(true);
  expect(await check(a)).toEqual([expect.stringContaining("If the others have none any more")]);
  for (const redis of [a, b]) await redis.hset(SHARD_KEY, "count", 1);
  expect(await check(a, b)).toEqual([null, null]);
  await tellCount([a, b]);
  expect(await check(a)).toEqual([null]);
});

test("a Redis without data in the place of a shard with tenants is refused, until these are given up", async () => {
  await check(a, b);
  await new KeyRegistry(b, 1).create("lost");
  await tellCount([a, b]);
  expect(await check(a, c)).toEqual([
    null,
    "URL 2 of REDIS_URL leads to a Redis without data, but its place had tenants: correct the URL, or restore the data. " +
      "To give these tenants up, tell that Redis: HSET {trimtab}:shard number 1",
  ]);
  await c.hset(SHARD_KEY, "number", 1);
  expect(await check(a, c)).toEqual([null, null]);
});
