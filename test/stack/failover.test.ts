/** The Redis master is killed, a Sentinel promotes its replica, and clients, edge and worker continue there. */
import { once } from "node:events";
import { createServer, type AddressInfo } from "node:net";
import type { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { JobClient } from "../../infra/cli/job-client.ts";
import { startEdge, type EdgeProcess } from "../../infra/stack/edge.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { startWorker, type WorkerProcess } from "../../infra/stack/worker.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { jobKey } from "../../shared/redis/keys.ts";
import { startRedisProxy } from "../support/redis-proxy.ts";
import { startSentinel, type Sentinel } from "../support/sentinel.ts";
import {
  allEvents,
  countingFrom,
  DEADLINE_MS,
  edgeIsReady,
  runToEnd,
  LONG_JOB,
  EventReader,
  generatingPids,
  seqOf,
  textOf,
} from "./stack.ts";

let master: RedisServer;
let sentinel: Sentinel;
let edge: EdgeProcess;
let worker: WorkerProcess;
let client: JobClient;

beforeAll(async () => {
  master = await startRedis({ aof: true });
  await startRedis({ aof: true, replicaOf: master.port });
  sentinel = await startSentinel("trimtab", master.port);
  await sentinel.isReady();
  // The first Sentinel of the list accepts connections and does not answer: that is allowed.
  const silent = createServer(() => {})
    .listen(0, "127.0.0.1")
    .unref();
  await once(silent, "listening");
  const hosts = `127.0.0.1:${(silent.address() as AddressInfo).port},127.0.0.1:${sentinel.port}`;
  const redisUrl = `redis+sentinel://${hosts}/trimtab`;
  const [startedEdge, redis, startedWorker] = await Promise.all([
    startEdge({ redisUrl }),
    connectRedis(redisUrl),
    startWorker({ redisUrl, env: { LOG_LEVEL: "warn" } }),
  ]);
  [edge, worker] = [startedEdge, startedWorker];
  const { key } = await new KeyRegistry(redis).create("test");
  redis.disconnect();
  client = new JobClient(edge.url, key);
});
afterAll(stopAllChildren);

test("a stream, its job and queued jobs continue when the master is killed", async () => {
  const undisturbed = await runToEnd(client, LONG_JOB);
  const { id } = await client.submit(LONG_JOB);
  const reader = new EventReader(client, id);
  await reader.hasTokens(40);
  // Replication is asynchronous: an event that the replica lacks when the master dies would be lost.
  const resume = pauseGeneration(worker);
  await isReplicated(master);
  master.child.kill("SIGKILL");
  await sentinel.replacesMaster();
  resume();

  const events = await reader.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(textOf(events)).toBe(undisturbed.output.text);
  await edgeIsReady(edge);
  expect(await allEvents(client, id)).toEqual(events);
  expect(await runToEnd(client, LONG_JOB)).toMatchObject({ state: "succeeded" });
});

test("an open stream ends with events_lost when the new master lacks events that it has sent; the job ends with the same text", async () => {
  const [old, copy] = [await startRedis(), await startRedis()];
  const [oldRedis, copyRedis] = [await connectRedis(old.url), await connectRedis(copy.url)];
  await copyRedis.replicaof("127.0.0.1", String(old.port));
  const proxy = await startRedisProxy(old.url);
  const [ownEdge, ownWorker] = await Promise.all([
    startEdge({ redisUrl: proxy.url }),
    startWorker({ redisUrl: proxy.url, env: { LOG_LEVEL: "warn" } }),
  ]);
  const { key } = await new KeyRegistry(oldRedis).create("test");
  const own = new JobClient(ownEdge.url, key);
  const job = { ...LONG_JOB, max_tokens: 400 };
  const { id } = await own.submit(job);
  const reader = new EventReader(own, id);
  await reader.hasTokens(40);
  const tokensOf = async (redis: Redis) => Number(await redis.hget(jobKey(id), "tokens"));
  // The job must not reach its end before the copy is cut off.
  const resume = pauseGeneration(ownWorker);
  await isReplicated(old);
  await copyRedis.replicaof("NO", "ONE");
  resume();
  await reader.hasTokens((await tokensOf(copyRedis)) + 40);
  proxy.switchTo(copy.url);

  await expect(reader.ended).rejects.toThrow("events_lost");
  await edgeIsReady(ownEdge);
  expect(textOf(await allEvents(own, id))).toBe((await runToEnd(own, job)).output.text);
  for (const redis of [oldRedis, copyRedis]) redis.disconnect();
  proxy.close();
});

/** Stops the worker's generating processes. @returns lets them go on */
function pauseGeneration(worker: WorkerProcess): () => void {
  const pids = generatingPids(worker);
  for (const pid of pids) process.kill(pid, "SIGSTOP");
  return () => pids.forEach((pid) => process.kill(pid, "SIGCONT"));
}

/** Resolves when the master's replica has received everything that was written by now. */
async function isReplicated(master: RedisServer): Promise<void> {
  const redis = await connectRedis(master.url);
  // WAIT counts from the last write of its own connection.
  await redis.publish("replicated", "");
  expect(await redis.wait(1, DEADLINE_MS)).toBe(1);
  redis.disconnect();
}
