import { Redis } from "ioredis";
import { expect, inject, test } from "vitest";
import { checkServer, readInfo } from "../../../shared/redis/server-check.ts";

const info = (fields: Readonly<Record<string, string>>) =>
  ["# Server", ...Object.entries(fields).map(([name, value]) => `${name}:${value}`), ""].join(
    "\r\n",
  );

test("the server of the tests can be used", async () => {
  const redis = new Redis(inject("redisUrl"));
  expect(await checkServer(redis, inject("redisUrl"))).toEqual({ refusal: null, warning: null });
  await redis.config("SET", "maxmemory-policy", "allkeys-lru");
  const { warning } = await checkServer(redis, inject("redisUrl"));
  await redis.config("SET", "maxmemory-policy", "noeviction");
  redis.disconnect();
  expect(warning).toContain("maxmemory-policy is allkeys-lru");
});

test("a user who may not call INFO can use the server", async () => {
  const admin = new Redis(inject("redisUrl"));
  await admin.call("ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", "-info");
  const redis = new Redis(inject("redisUrl"), { username: "limited", password: "secret" });
  expect(await checkServer(redis, inject("redisUrl"))).toEqual({ refusal: null, warning: null });
  await admin.call("ACL", "DELUSER", "limited");
  for (const client of [admin, redis]) client.disconnect();
});

test("a database that the server does not have is refused", async () => {
  const redis = new Redis(inject("redisUrl"));
  const { refusal } = await checkServer(redis, `${inject("redisUrl")}/999`);
  redis.disconnect();
  expect(refusal).toBe("REDIS_URL names database 999, which this Redis does not have");
});

test.each([
  ["6.0.16", "Redis 6.0.16 is too old: version 6.2 or newer is needed"],
  ["5.0.7", "Redis 5.0.7 is too old: version 6.2 or newer is needed"],
  ["6.2.0", null],
  ["7.2.4", null],
  ["10.0.1", null],
])("version %s: %s", (version, refusal) => {
  expect(readInfo(info({ redis_version: version }), "redis://host").refusal).toBe(refusal);
});

test("a server in cluster mode needs a URL that says so", () => {
  const cluster = info({ redis_version: "7.4.0", cluster_enabled: "1" });
  expect(readInfo(cluster, "redis://host").refusal).toContain("redis+cluster://");
  expect(readInfo(cluster, "redis+cluster://host").refusal).toBe(null);
});
