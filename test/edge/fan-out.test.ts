/** Many streams, few connections; and a reader that does not read takes no more than a few pages of a log. */
import { expect, test } from "vitest";
import { createApp } from "../../edge/app.ts";
import { RedisBackend } from "../../edge/backend-redis.ts";
import { parseEnv } from "../../edge/env.ts";
import { log } from "../../edge/log.ts";
import {
  claim,
  followers,
  newTenant,
  play,
  redis,
  redisUrl,
  say,
  sse,
  store,
  success,
} from "./harness.ts";

const STREAMS = 200;
/** The default of STREAM_CONNECTIONS. */
const CONNECTIONS_MAX = 16;

test("200 streams share at most 16 connections, each gets its events once, and none is left when they end", async () => {
  const client = await newTenant();
  const others = await connections();
  const jobs = await Promise.all(
    Array.from({ length: STREAMS / 2 }, async () => {
      const { id } = await client.submit();
      return { id, ...(await claim(id)) };
    }),
  );
  // Two readers of each job, who both have what was and wait for what comes.
  const readers = await Promise.all(
    [...jobs, ...jobs].map(async ({ id }) => {
      const events = sse(await client.get(`/v1/jobs/${id}/events`));
      const first = [await events.next(), await events.next()].map(({ value }) => value!.id);
      return { first, events };
    }),
  );
  await expect.poll(connections).toBeLessThanOrEqual(others + CONNECTIONS_MAX);
  const [leaver] = readers;
  await leaver!.events.return(undefined);
  await Promise.all(
    jobs.map(async ({ id, attempt }, i) => {
      await say(id, attempt, `a${i}`);
      await say(id, attempt, "b");
      await store.finish(id, attempt, "succeeded", "", success);
    }),
  );
  for (const { first, events } of readers.slice(1)) {
    const rest = await Array.fromAsync(events);
    expect([...first, ...rest.map(({ id }) => id)]).toEqual(["1", "2", "3", "4", "5"]);
  }
  await expect.poll(connections).toBe(others);
});

test("a log is read as fast as its reader reads it, and is whole in the end", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const { attempt } = await claim(id);
  const EVENTS = 4_000;
  // 8 MB
  const text = "x".repeat(2_000);
  await Promise.all(Array.from({ length: EVENTS }, () => say(id, attempt, text)));
  const before = await bytesSent();
  const events = sse(await client.get(`/v1/jobs/${id}/events`));
  expect((await events.next()).value?.id).toBe("1");
  await settled(bytesSent);
  expect((await bytesSent()) - before).toBeLessThan(1_000_000);
  await store.finish(id, attempt, "succeeded", "", success);
  const rest = (await Array.fromAsync(events)).map((event) => Number(event.id));
  expect(rest).toEqual(Array.from({ length: EVENTS + 2 }, (_, i) => i + 2));
});

test("streams may have connections of their own instead", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const before = await connections();
  const env = parseEnv({ REDIS_URL: redisUrl, STREAM_CONNECTIONS: 0 });
  const openBackend = () => new RedisBackend(env, followers);
  const edge = createApp({ openBackend, deadlineSeconds: 60, webhookAllow: [], log });
  const headers = { authorization: `Bearer ${client.key}` };
  const open = async () => sse(await edge.request(`/v1/jobs/${id}/events`, { headers }));
  const streams = await Promise.all(Array.from({ length: 5 }, open));
  for (const events of streams) expect((await events.next()).value?.id).toBe("1");
  expect(await connections()).toBe(before + 5);
  await play(id, ["a"]);
  for (const events of streams) expect(await Array.fromAsync(events)).toHaveLength(3);
  await expect.poll(connections).toBe(before);
});

async function connections(): Promise<number> {
  return Number(/connected_clients:(\d+)/.exec(await redis.info("clients"))![1]);
}

/** By Redis, to all its clients. */
async function bytesSent(): Promise<number> {
  return Number(/total_net_output_bytes:(\d+)/.exec(await redis.info("stats"))![1]);
}

/** Resolves when a figure has stopped growing, but for what asking costs. */
async function settled(figure: () => Promise<number>): Promise<void> {
  let last = -Infinity;
  await expect
    .poll(async () => {
      const now = await figure();
      const growth = now - last;
      last = now;
      return growth;
    })
    .toBeLessThan(10_000);
}
