import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { defineScript } from "../../../shared/redis/script.ts";
import { TAGS, withTag } from "../../../shared/redis/tags.ts";

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

const echo = defineScript("return {KEYS[1], KEYS[2], ARGV[1], #KEYS, #ARGV}");

test("a script gets its keys and arguments, and its text is sent only while the server does not have it", async () => {
  const evalText = vi.spyOn(redis, "eval");
  const run = () => echo(redis, ["a", "b"], ["c", 4]);
  const reply = ["a", "b", "c", 2, 2];
  expect([await run(), await run()]).toEqual([reply, reply]);
  expect(evalText).toHaveBeenCalledTimes(1);
  // As after a restart or a failover.
  await redis.script("FLUSH");
  expect([await run(), await run()]).toEqual([reply, reply]);
  expect(evalText).toHaveBeenCalledTimes(2);
});

test("an error of a script is thrown, and the script does not run a second time", async () => {
  const fail = defineScript("redis.call('INCR', KEYS[1]) return redis.call('LPUSH', KEYS[1], 'x')");
  await expect(fail(redis, ["n"])).rejects.toThrow("WRONGTYPE");
  await expect(fail(redis, ["n"])).rejects.toThrow("WRONGTYPE");
  expect(await redis.get("n")).toBe("2");
});

test("a name that would keep its tag on another shard is refused", () => {
  for (const name of ['"{trimtab}:due"', "[[{trimtab}:due]]", "'{trimtab}'"]) {
    expect(() => defineScript(`return redis.call('ZCARD', ${name})`)).toThrow("keep its tag");
  }
  expect(() => withTag("trimtab:due", TAGS[1]!)).toThrow("does not begin with {trimtab}");
});
