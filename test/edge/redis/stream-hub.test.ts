/** Stream hubs: many streams share few connections, and a slow reader makes the hub read only a few pages of a log. */
import { expect, test } from "vitest";
import { createApp } from "../../../edge/app.ts";
import { HubLogs } from "../../../edge/redis/hub-client.ts";
import { RequestStores } from "../../../edge/redis/stores.ts";
import { Hub } from "../../../edge/redis/hub.ts";
import { parseEnv } from "../../../edge/runtime/env.ts";
import { log } from "../../../edge/runtime/log.ts";
import { eventChannel, logKey } from "../../../shared/redis/keys.ts";
import {
  claim,
  newTenant,
  play,
  redis,
  redisUrl,
  appendText,
  sse,
  store,
  success,
} from "../harness.ts";

const STREAMS = 200;
/** The default of STREAM_CONNECTIONS. */
const CONNECTIONS_MAX = 16;

test("200 streams share at most 16 connections, each gets its events once, and the connections close at the end", async () => {
  const client = await newTenant();
  const others = await connections();
  const jobs: { id: string; attempt: number }[] = [];
  // Ten at a time: each submission opens a connection, and on a busy machine a hundred at once would time out.
  const submitNext = async () => {
    const { id } = await client.submit();
    return { id, ...(await claim(id)) };
  };
  while (jobs.length < STREAMS / 2) {
    jobs.push(...(await Promise.all(Array.from({ length: 10 }, submitNext))));
  }
  // Two readers of each job. Both have the past events and wait for new ones.
  const readers = await Promise.all(
    [...jobs, ...jobs].map(async ({ id }) => {
      const events = sse(await client.get(`/v1/jobs/${id}/events`));
      const first = [await events.next(), await events.next()].map(({ value }) => value!.id);
      return { first, events };
    }),
  );
  await expect.poll(connections).toBeLessThanOrEqual(others + CONNECTIONS_MAX);
  const [stopping] = readers;
  await stopping!.events.return(undefined);
  await Promise.all(
    jobs.map(async ({ id, attempt }, i) => {
      await appendText(id, attempt, `a${i}`);
      await appendText(id, attempt, "b");
      await store.finish(id, attempt, "succeeded", "", success);
    }),
  );
  for (const { first, events } of readers.slice(1)) {
    const rest = await Array.fromAsync(events);
    expect([...first, ...rest.map(({ id }) => id)]).toEqual(["1", "2", "3", "4", "5"]);
  }
  // Connections of an earlier test file may have closed since.
  await expect.poll(connections).toBeLessThanOrEqual(others);
});

test("a log is read only as fast as its reader reads the stream, and completely", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const { attempt } = await claim(id);
  const EVENTS = 4_000;
  // 8 MB
  const text = "x".repeat(2_000);
  await Promise.all(Array.from({ length: EVENTS }, () => appendText(id, attempt, text)));
  const before = await bytesSent();
  const events = sse(await client.get(`/v1/jobs/${id}/events`));
  expect((await events.next()).value?.id).toBe("1");
  await settled(bytesSent);
  expect((await bytesSent()) - before).toBeLessThan(1_000_000);
  await store.finish(id, attempt, "succeeded", "", success);
  const rest = (await Array.fromAsync(events)).map((event) => Number(event.id));
  expect(rest).toEqual(Array.from({ length: EVENTS + 2 }, (_, i) => i + 2));
});

test("without hubs each stream has its own connection", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  // Of this job, because other tests connect too.
  const subscribers = async () => Number((await redis.pubsub("NUMSUB", eventChannel(id)))[1]);
  const env = parseEnv({ REDIS_URL: redisUrl });
  const openStores = () => new RequestStores(env, null);
  const edge = createApp({ openStores, deadlineSeconds: 60, webhookAllow: [], log });
  const headers = { authorization: `Bearer ${client.key}` };
  const open = async () => sse(await edge.request(`/v1/jobs/${id}/events`, { headers }));
  const streams = await Promise.all(Array.from({ length: 5 }, open));
  for (const events of streams) expect((await events.next()).value?.id).toBe("1");
  expect(await subscribers()).toBe(5);
  await play(id, ["a"]);
  for (const events of streams) expect(await Array.fromAsync(events)).toHaveLength(3);
  await expect.poll(subscribers).toBe(0);
});

test("a hub whose Redis fails ends the stream with queue_unavailable", async () => {
  const logs = hubLogs(hubOn("redis://127.0.0.1:1"));
  const { signal } = new AbortController();
  const error = {
    code: "queue_unavailable",
    cause: { message: expect.stringContaining("closed") },
  };
  await expect(logs.job("job_x", { after: 0, signal }).next()).rejects.toMatchObject(error);
  await expect(logs.jobEnd("job_x", { signal })).rejects.toMatchObject(error);
});

test("a hub that cannot be reached, or loses its connection, also gives queue_unavailable", async () => {
  const { signal } = new AbortController();
  const error = { code: "queue_unavailable" };
  const unreachable = hubLogs(() => Promise.reject(new Error("Network connection lost.")));
  await expect(unreachable.jobEnd("job_x", { signal })).rejects.toMatchObject(error);
  const breaking = hubLogs(() => {
    const body = new ReadableStream({ pull: (stream) => stream.error(new Error("reset")) });
    return Promise.resolve(new Response(body));
  });
  await expect(breaking.jobEnd("job_x", { signal })).rejects.toMatchObject(error);
});

test("a bug in a hub is not reported as a failure of Redis", async () => {
  await redis.set(logKey("job_wrong_type"), "no stream");
  const { signal } = new AbortController();
  const events = hubLogs(hubOn(redisUrl)).job("job_wrong_type", { after: 0, signal });
  const error: unknown = await events.next().catch((error: unknown) => error);
  expect(error).toBeInstanceOf(Error);
  expect(error).not.toHaveProperty("code");
  expect(String(error)).toContain("WRONGTYPE");
});

test("a hub returns events byte for byte as they are in the log", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  // JSON that would change if the hub parsed and serialized it.
  const data = '{"ids":[1.0], "text":"\\u00e9"}';
  await redis.xadd(logKey(id), "2-0", "type", "tokens", "data", data);
  const { signal } = new AbortController();
  const events = hubLogs(hubOn(redisUrl)).job(id, { after: 1, signal });
  expect((await events.next()).value).toEqual({ seq: 2, type: "tokens", data });
  await events.return();
});

test("waiting for a job's end uses a hub, and survives the loss of its connection", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const { signal } = new AbortController();
  const wait = hubLogs(hubOn(redisUrl)).jobEnd(id, { signal });
  const isSubscribed = async () => Number((await redis.pubsub("NUMSUB", eventChannel(id)))[1]);
  await expect.poll(isSubscribed).toBe(1);
  const list = String(await redis.call("CLIENT", "LIST", "TYPE", "pubsub"));
  for (const [, connection] of list.matchAll(/^id=(\d+)/gm)) {
    await redis.call("CLIENT", "KILL", "ID", connection!);
  }
  await play(id, ["a"]);
  await wait;
  await expect.poll(isSubscribed).toBe(0);
});

type FetchHub = (url: string) => Promise<Response>;

/** The client of one hub. */
function hubLogs(fetch: FetchHub): HubLogs {
  return new HubLogs({ getByName: () => ({ fetch }) } as unknown as DurableObjectNamespace, 1);
}

/** A hub for one test, which uses the Redis at the URL. */
function hubOn(url: string): FetchHub {
  const hub = new Hub(parseEnv({ REDIS_URL: url, REDIS_TIMEOUT_MS: 1_000 }));
  return async (request) => hub.fetch(new Request(request));
}

async function connections(): Promise<number> {
  return Number(/connected_clients:(\d+)/.exec(await redis.info("clients"))![1]);
}

/** Bytes that Redis has sent to all its clients. */
async function bytesSent(): Promise<number> {
  return Number(/total_net_output_bytes:(\d+)/.exec(await redis.info("stats"))![1]);
}

/** Resolves when a number has stopped growing, apart from the bytes that reading it causes. */
async function settled(count: () => Promise<number>): Promise<void> {
  let last = -Infinity;
  await expect
    .poll(async () => {
      const now = await count();
      const growth = now - last;
      last = now;
      return growth;
    })
    .toBeLessThan(10_000);
}
