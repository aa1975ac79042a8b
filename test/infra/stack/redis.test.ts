/** Redis servers of the stack. */
import { expect, onTestFinished, test } from "vitest";
import { connectRedis, startRedis, withoutPassword } from "../../../infra/stack/redis.ts";

test("a started server refuses writes rather than evict keys, and does not answer once it is stopped", async () => {
  const server = await startRedis();
  const redis = await connectRedis(server.url);
  expect(await redis.config("GET", "maxmemory-policy")).toEqual(["maxmemory-policy", "noeviction"]);
  redis.disconnect();
  await server.stop();
  await expect(connectRedis(server.url)).rejects.toThrow("does not answer: ECONNREFUSED");
});

test("with an append-only file, acknowledged writes survive a crash", async () => {
  const server = await startRedis({ aof: true });
  onTestFinished(() => server.stop());
  const before = await connectRedis(server.url);
  await before.set("kept", "yes");
  await server.crash();
  before.disconnect();
  const after = await connectRedis(server.url);
  expect(await after.get("kept")).toBe("yes");
  after.disconnect();
});

test.for([
  ["redis://127.0.0.1:6379", "redis://127.0.0.1:6379"],
  ["redis://:secret@host:6379/1", "redis://:***@host:6379/1"],
  ["rediss://user:secret@host", "rediss://user:***@host"],
  ["redis://:a@host redis://user:b@other", "redis://:***@host redis://user:***@other"],
  ["redis+sentinel://h/m?sentinel_password=a", "redis+sentinel://h/m?sentinel_password=***"],
])("%s is displayed as %s", ([url, shown]) => {
  expect(withoutPassword(url ?? "")).toBe(shown);
});
