/** Connections that go silent without being closed: a proxy drops their data, and new connections work. */
import { once } from "node:events";
import { pino } from "pino";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test, vi, type TestContext } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { startRedisProxy, type RedisProxy } from "../../support/redis-proxy.ts";
import {
  connectRedis,
  duplicateConnection,
  isAnswering,
  whenReady,
} from "../../../worker/redis/connection.ts";

const log = pino({ level: "silent" });

let server: RedisServer;

beforeAll(async () => {
  server = await startRedis();
});
afterAll(() => server.stop());

/** Tests that run at the same time: each one cleans up through its own context. */
type Cleanup = Pick<TestContext, "onTestFinished">;

async function connectThroughProxy(context: Cleanup): Promise<{ redis: Redis; proxy: RedisProxy }> {
  const proxy = await startRedisProxy(server.url);
  const redis = connectTo(proxy, context);
  await once(redis, "ready");
  return { redis, proxy };
}

/** Redis accepts the connection and does not answer. */
async function connectToSilent(context: Cleanup): Promise<{ redis: Redis; proxy: RedisProxy }> {
  const proxy = await startRedisProxy(server.url);
  proxy.partition();
  return { redis: connectTo(proxy, context), proxy };
}

function connectTo(proxy: RedisProxy, { onTestFinished }: Cleanup): Redis {
  const redis = connectRedis(proxy.url, log);
  onTestFinished(() => {
    redis.disconnect();
    proxy.close();
  });
  return redis;
}

test.concurrent("a silent connection is noticed and replaced, and its commands are sent again", async (context) => {
  const { redis, proxy } = await connectThroughProxy(context);
  expect(isAnswering(redis)).toBe(true);
  proxy.silenceConnections();
  const reply = redis.set("written", "after the connection was lost");
  await vi.waitUntil(() => !isAnswering(redis), 30_000);
  expect(await reply).toBe("OK");
  expect(isAnswering(redis)).toBe(true);
});

test.concurrent("a silent subscriber is replaced, and subscribed again", async (context) => {
  const { redis, proxy } = await connectThroughProxy(context);
  const subscriber = duplicateConnection(redis, log);
  context.onTestFinished(() => subscriber.disconnect());
  const received: string[] = [];
  subscriber.on("message", (_, message: string) => received.push(message));
  await subscriber.subscribe("news");
  const publisher = connectRedis(server.url, log);
  context.onTestFinished(() => publisher.disconnect());
  proxy.silenceConnections();
  expect(await publisher.publish("news", "lost")).toBe(1);
  await vi.waitUntil(async () => {
    await publisher.publish("news", "heard");
    return received.length > 0;
  }, 30_000);
  expect(new Set(received)).toEqual(new Set(["heard"]));
});

test.concurrent("a connection without commands for longer than it may be silent is kept", async (context) => {
  const { redis } = await connectThroughProxy(context);
  const closed = vi.fn<() => void>();
  redis.on("close", closed);
  const { stream } = redis;
  // Seven PINGs take longer than the time after which a silent connection is replaced.
  const ping = vi.spyOn(redis, "ping");
  await vi.waitUntil(() => ping.mock.calls.length >= 7, 30_000);
  expect(closed).not.toHaveBeenCalled();
  expect(redis.stream).toBe(stream);
});

test.concurrent("a Redis that accepts connections and is silent from the start is not ready", async (context) => {
  const { redis, proxy } = await connectToSilent(context);
  const reply = redis.ping();
  await once(redis, "close");
  expect(isAnswering(redis)).toBe(false);
  proxy.heal();
  expect(await reply).toBe("PONG");
});

test.concurrent("a command that waits until the connection is ready is not lost with a connection that breaks before", async (context) => {
  const { redis, proxy } = await connectToSilent(context);
  await once(redis, "connect");
  const reply = whenReady(redis).then(() => redis.info());
  await once(redis, "close");
  proxy.heal();
  expect(await reply).toContain("redis_version");
});

test.concurrent("commands of one turn leave in one packet, and each gets its reply", async (context) => {
  const { redis } = await connectThroughProxy(context);
  const packets = vi.spyOn(redis.stream, "_writev");
  const single = vi.spyOn(redis.stream, "_write");
  const values = Array.from({ length: 20 }, (_, i) => `${i}`);
  // Each one is sent by another microtask, as tokens of a step are logged.
  const replies = await Promise.all(
    values.map((value) => Promise.resolve().then(() => redis.echo(value))),
  );
  expect(replies).toEqual(values);
  expect([packets.mock.calls.length, single.mock.calls.length]).toEqual([1, 0]);
});
