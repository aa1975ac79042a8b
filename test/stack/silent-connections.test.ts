/**
 * Streams over connections to Redis that die without being closed, and to a cluster that is down for a while: they continue within
 * seconds, and miss nothing.
 */
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, inject, onTestFinished, test } from "vitest";
import { connectToFollow } from "../../edge/redis/connection.ts";
import type { LogReader } from "../../edge/redis/follow.ts";
import { RequestStores } from "../../edge/redis/stores.ts";
import { connectShared } from "../../edge/redis/shared-connection.ts";
import { logsOver } from "../../edge/redis/shared-logs.ts";
import { parseEnv, type Env } from "../../edge/runtime/env.ts";
import { freePort } from "../../infra/stack/port.ts";
import { startRedis } from "../../infra/stack/redis.ts";
import { newId } from "../../shared/ids.ts";
import { JobStore } from "../../shared/jobs/store.ts";
import { eventChannel } from "../../shared/redis/keys.ts";
import { claimJob } from "../support/claim.ts";
import { startRedisProxy, type RedisProxy } from "../support/redis-proxy.ts";
import { newJob } from "../support/generation.ts";

const redis = new Redis(inject("redisUrl"));
const store = new JobStore(redis, 600_000);
let proxy: RedisProxy;
let env: Env;
beforeAll(async () => {
  proxy = await startRedisProxy(inject("redisUrl"));
  // Heartbeats are as long as they can be, so that no poll finds what the subscription has missed.
  env = parseEnv({ REDIS_URL: proxy.url, REDIS_TIMEOUT_MS: 1_000, STREAM_HEARTBEAT_SECONDS: 300 });
});
afterAll(() => {
  redis.disconnect();
  proxy.close();
});

interface Reader {
  readonly logs: Pick<LogReader, "job">;
  readonly close: () => void;
}

/** The three kinds of connections that streams use. */
function openReaders(env: Env): Reader[] {
  const ofHub = connectToFollow(env);
  const ofProcess = connectShared(env, {
    commandTimeoutMs: 15_000,
    connectsMax: null,
    waitsForServer: true,
  });
  const ofRequest = new RequestStores(env, null);
  return [
    { logs: logsOver(ofHub, env), close: () => ofHub.disconnect() },
    { logs: logsOver(ofProcess, env), close: () => ofProcess.disconnect() },
    {
      logs: { job: (id, request) => ofRequest.followJob(id, request) },
      close: () => ofRequest.close(),
    },
  ];
}

test("streams and commands of every kind of connection continue after it has gone silent", async () => {
  const id = newId("job");
  await store.submit(newJob({ id, tenant: "acme" }));
  await claimJob(redis, id);
  const readers = openReaders(env);
  const commands = connectShared(env, {
    commandTimeoutMs: 5_000,
    connectsMax: 1,
    waitsForServer: false,
  });
  await commands.ping();
  const { haveRead, close } = readAll(readers, id);
  const append = (at: number) => store.appendTokens(id, 1, at, { ids: [1], text: "a" });

  await haveRead([1, 2]);
  proxy.silenceConnections();
  for (let at = 0; at < 3; at++) await append(at);
  await haveRead([1, 2, 3, 4, 5]);
  await append(3);
  await haveRead([1, 2, 3, 4, 5, 6]);
  await expect.poll(() => commands.ping().catch(String), { timeout: 30_000 }).toBe("PONG");
  commands.disconnect();
  await close();
});

/** Reads a job's log with each of the readers. */
function readAll(readers: readonly Reader[], id: string) {
  const { signal } = new AbortController();
  const read: number[][] = readers.map(() => []);
  const readings = readers.map(async ({ logs }, i) => {
    for await (const { seq } of logs.job(id, { after: 0, signal })) read[i]!.push(seq);
  });
  return {
    haveRead: (seqs: number[]) =>
      expect.poll(() => read, { timeout: 30_000 }).toEqual(readers.map(() => seqs)),
    close: async () => {
      for (const { close } of readers) close();
      await Promise.allSettled(readings);
    },
  };
}

test("streams of every kind of connection continue after a cluster was down", async () => {
  const node = await startRedis({ clusterPort: await freePort() });
  onTestFinished(() => node.stop());
  const client = new Redis(node.port);
  onTestFinished(() => client.disconnect());
  const slots = ["SLOTSRANGE", 0, 16_383] as const;
  const serve = async (change: "ADD" | "DEL") => {
    await client.call("CLUSTER", `${change}${slots[0]}`, slots[1], slots[2]);
    const state = change === "ADD" ? "cluster_state:ok" : "cluster_state:fail";
    await expect.poll(() => client.cluster("INFO"), { timeout: 30_000 }).toContain(state);
  };
  await serve("ADD");
  const store = new JobStore(client, 600_000);
  const id = newId("job");
  await store.submit(newJob({ id, tenant: "acme" }));
  await claimJob(client, id);
  const clusterEnv = { ...env, REDIS_URL: `redis+cluster://127.0.0.1:${node.port}` };
  const readers = openReaders({ ...clusterEnv, REDIS_TIMEOUT_MS: 30_000 });
  const { haveRead, close } = readAll(readers, id);
  await haveRead([1, 2]);

  await serve("DEL");
  await client.config("RESETSTAT");
  // A gap: each reader reads the log, which no server has.
  await client.publish(eventChannel(id), "9\ntokens\n{}");
  const refusals = async () => {
    const stats = await client.info("errorstats");
    return Number(/errorstat_CLUSTERDOWN:count=(\d+)/.exec(stats)?.[1] ?? 0);
  };
  await expect.poll(refusals, { timeout: 30_000 }).toBeGreaterThan(2 * readers.length);
  await serve("ADD");
  await store.appendTokens(id, 1, 0, { ids: [1], text: "a" });
  await haveRead([1, 2, 3]);
  await close();
});
