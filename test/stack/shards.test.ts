/** A Redis Cluster with two shards, each on a node of its own, behind one edge, with one worker that has a single slot. */
import type { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { JobClient } from "../../infra/cli/job-client.ts";
import { startEdge, type EdgeProcess } from "../../infra/stack/edge.ts";
import { stopAllChildren } from "../../infra/stack/process.ts";
import { connectRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { startWorker, type WorkerProcess } from "../../infra/stack/worker.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import type { RedisClient } from "../../shared/redis/client.ts";
import { jobKey } from "../../shared/redis/keys.ts";
import { commandsOf } from "../../shared/redis/tags.ts";
import { shardUrls } from "../../shared/redis/url.ts";
import { startRedisCluster } from "../support/redis-cluster.ts";
import { startReceiver } from "../support/receiver.ts";
import {
  allEvents,
  countingFrom,
  DEADLINE_MS,
  EventReader,
  LONG_JOB,
  runToEnd,
  seqOf,
  SHORT_JOB,
} from "./stack.ts";

const LOCAL_WEBHOOKS = { WEBHOOK_ALLOW: "127.0.0.1" };

let servers: RedisServer[];
let connections: Redis[];
let redis: RedisClient[];
let edge: EdgeProcess;
let worker: WorkerProcess;
let clients: JobClient[];
let operatorKey: string;

beforeAll(async () => {
  const { owner, other, url } = await startRedisCluster();
  servers = [owner, other];
  const redisUrl = `${url}?shards=2`;
  const env = { ...LOCAL_WEBHOOKS, LOG_LEVEL: "warn", SLOTS: "1" };
  [edge, worker] = await Promise.all([
    startEdge({ redisUrl, env: LOCAL_WEBHOOKS }),
    startWorker({ redisUrl, env }),
  ]);
  connections = await Promise.all(shardUrls(redisUrl).map((url) => connectRedis(url)));
  redis = connections.map(commandsOf);
  const registries = redis.map((each, shard) => new KeyRegistry(each, shard));
  const keys = await Promise.all(registries.map((keys, i) => keys.create("test", `tenant-${i}`)));
  clients = keys.map(({ key }) => new JobClient(edge.url, key));
  const operator = { scopes: ["operator" as const], limits: {} };
  operatorKey = (await registries[1]!.create("operator", "operator", operator)).key;
});

afterAll(async () => {
  for (const each of connections ?? []) each.disconnect();
  await worker?.stop();
  await stopAllChildren();
});

async function operator<T>(path: string, method = "GET"): Promise<T> {
  const headers = { authorization: `Bearer ${operatorKey}` };
  const reply = await fetch(`${edge.url}/v1/operator/${path}`, { method, headers });
  expect(reply.status).toBe(200);
  return (await reply.json()) as T;
}

test("each tenant's jobs, streams and webhooks are on its shard alone, and the operator sees both", async () => {
  const receiver = await startReceiver(200);
  const input = { ...SHORT_JOB, webhook: { url: receiver.url } };
  const jobs = await Promise.all(clients.map((client) => runToEnd(client, input)));
  expect(jobs.map(({ state }) => state)).toEqual(["succeeded", "succeeded"]);
  const places = jobs.map(({ id }) => Promise.all(redis.map((each) => each.exists(jobKey(id)))));
  expect(await Promise.all(places)).toEqual([
    [1, 0],
    [0, 1],
  ]);
  await expect(clients[0]!.read(jobs[1]!.id)).rejects.toThrow("answered 404");
  const ticketPath = `/v1/jobs/${jobs[1]!.id}/tickets`;
  const body = JSON.stringify({ action: "stream" });
  const reply = await clients[1]!.request(ticketPath, { method: "POST", body });
  const { url } = (await reply.json()) as { url: string };
  expect(await (await fetch(edge.url + url)).text()).toContain("event: succeeded");
  await expect.poll(() => receiver.received.length, { timeout: DEADLINE_MS }).toBe(2);
  await receiver.stop();

  const workers = await operator<{ data: { id: string }[] }>("workers");
  expect(workers.data).toHaveLength(1);
  const usage = await operator<{ data: { tenant: string; jobs: number }[] }>(
    "usage?group_by=tenant",
  );
  expect(usage.data.map(({ tenant, jobs }) => [tenant, jobs])).toEqual([
    ["tenant-0", 1],
    ["tenant-1", 1],
  ]);
});

test("a paused model is paused for all tenants, and the operator cancels a job on any shard", async () => {
  await operator("models/atlas-qa/pause", "POST");
  const waiting = await Promise.all(clients.map((client) => client.submit(SHORT_JOB)));
  type Queues = { data: { models: string[]; paused: boolean; tenants: { tenant: string }[] }[] };
  const { data } = await operator<Queues>("queues");
  expect(data).toMatchObject([
    {
      models: ["atlas-qa"],
      paused: true,
      tenants: [{ tenant: "tenant-0" }, { tenant: "tenant-1" }],
    },
  ]);
  const [first, second] = waiting.map(({ id }) => id);
  expect(await operator(`jobs/${first}/cancel`, "POST")).toMatchObject({ state: "cancelled" });
  await operator("models/atlas-qa/resume", "POST");
  expect((await allEvents(clients[1]!, second!)).at(-1)?.type).toBe("succeeded");
});

test("while a shard does not answer, the tenants of the others are served; afterwards its own are again", async () => {
  const { id } = await clients[1]!.submit(LONG_JOB);
  const reader = new EventReader(clients[1]!, id);
  await reader.hasTokens(5);
  // Its job holds the only slot, until the worker finds that Redis is silent.
  process.kill(servers[1]!.child.pid!, "SIGSTOP");
  expect((await runToEnd(clients[0]!, SHORT_JOB)).state).toBe("succeeded");
  expect((await fetch(`${edge.url}/readyz`)).status).toBe(200);
  process.kill(servers[1]!.child.pid!, "SIGCONT");
  const events = await reader.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(events.at(-1)?.type).toBe("succeeded");
});
