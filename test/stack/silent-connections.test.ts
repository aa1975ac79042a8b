/** Connections to Redis that die without being closed: streams over them continue within seconds, and miss nothing. */
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, inject, test } from "vitest";
import { connectToFollow } from "../../edge/redis/connection.ts";
import type { LogReader } from "../../edge/redis/follow.ts";
import { RequestStores } from "../../edge/redis/stores.ts";
import { connectShared } from "../../edge/redis/shared-connection.ts";
import { logsOver } from "../../edge/redis/shared-logs.ts";
import { parseEnv, type Env } from "../../edge/runtime/env.ts";
import { newId } from "../../shared/ids.ts";
import { JobStore } from "../../shared/jobs/store.ts";
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
function openReaders(): Reader[] {
  const ofHub = connectToFollow(env);
  const ofProcess = connectShared(env, {
    commandTimeoutMs: 15_000,
    connectsMax: null,
    waitsForLoading: true,
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
  const readers = openReaders();
  const commands = connectShared(env, {
    commandTimeoutMs: 5_000,
    connectsMax: 1,
    waitsForLoading: false,
  });
  await commands.ping();
  const { signal } = new AbortController();
  const read: number[][] = readers.map(() => []);
  const readings = readers.map(async ({ logs }, i) => {
    for await (const { seq } of logs.job(id, { after: 0, signal })) read[i]!.push(seq);
  });
  const haveRead = (seqs: number[]) =>
    expect.poll(() => read, { timeout: 30_000 }).toEqual(readers.map(() => seqs));
  const append = (at: number) => store.appendTokens(id, 1, at, { ids: [1], text: "a" });

  await haveRead([1, 2]);
  proxy.silenceConnections();
  for (let at = 0; at < 3; at++) await append(at);
  await haveRead([1, 2, 3, 4, 5]);
  await append(3);
  await haveRead([1, 2, 3, 4, 5, 6]);
  await expect.poll(() => commands.ping().catch(String), { timeout: 30_000 }).toBe("PONG");
  commands.disconnect();
  for (const { close } of readers) close();
  await Promise.allSettled(readings);
});
