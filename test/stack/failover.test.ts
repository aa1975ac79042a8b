/** The master is killed, a Sentinel puts its replica in its place, and clients, edge and worker go on there. */
import { afterAll, beforeAll, expect, test } from "vitest";
import { JobClient } from "../../infra/job-client.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import { freePort } from "../../infra/stack/port.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { startWorker } from "../../infra/stack/worker.ts";
import { KeyRegistry } from "../../shared/key-registry.ts";
import { startSentinel } from "../support/sentinel.ts";
import { allEvents, countingFrom, finished, LONG, Reader, seqOf, textOf } from "./stack.ts";

let master: RedisServer;
let client: JobClient;

beforeAll(async () => {
  master = await startRedis({ aof: true });
  await startRedis({ aof: true, replicaOf: master.port });
  const sentinel = await startSentinel("trimtab", master.port);
  await sentinel.isReady();
  // One Sentinel of the list may be away.
  const hosts = `127.0.0.1:${await freePort()},127.0.0.1:${sentinel.port}`;
  const redisUrl = `redis+sentinel://${hosts}/trimtab`;
  const [edge, redis] = await Promise.all([
    startEdge({ redisUrl }),
    connectRedis(redisUrl),
    startWorker({ redisUrl, env: { LOG_LEVEL: "warn" } }),
  ]);
  const { key } = await new KeyRegistry(redis).create("test");
  redis.disconnect();
  client = new JobClient(edge.url, key);
});
afterAll(stopAllChildren);

test("a stream, its job and what is queued go on when the master is killed", async () => {
  const undisturbed = await finished(client, LONG);
  const { id } = await client.submit(LONG);
  const reader = new Reader(client, id);
  await reader.hasTokens(40);
  master.child.kill("SIGKILL");

  const events = await reader.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(textOf(events)).toBe(undisturbed.output.text);
  expect(await allEvents(client, id)).toEqual(events);
  expect(await finished(client, LONG)).toMatchObject({ state: "succeeded" });
});
