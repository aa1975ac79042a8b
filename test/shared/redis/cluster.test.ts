/** Jobs, queues of BullMQ and channels over a Redis Cluster with two shards, and one whose keys move from node to node. */
import { Queue } from "bullmq";
import { pino } from "pino";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { stopAllChildren } from "../../../infra/stack/process.ts";
import { connectRedis as connectOnce, type RedisServer } from "../../../infra/stack/redis.ts";
import { fenceOf } from "../../../shared/jobs/fence.ts";
import { JobLeases } from "../../../shared/jobs/leases.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { eventChannel, jobKey } from "../../../shared/redis/keys.ts";
import { checkShard, shardNumber } from "../../../shared/redis/shards.ts";
import { commandsOf, tagOf, TAGS, withTag } from "../../../shared/redis/tags.ts";
import { shardUrls } from "../../../shared/redis/url.ts";
import { connectRedis, duplicateConnection } from "../../../worker/redis/connection.ts";
import { startQueueWorker } from "../../../worker/redis/queue-worker.ts";
import { newJob } from "../../support/generation.ts";
import { startRedisCluster, type RedisCluster } from "../../support/redis-cluster.ts";

const log = pino({ level: "silent" });
const LANES = [["atlas-qa", "weights"]] as const;
const TAKE = { lanes: LANES, takesJobs: true, leaseMs: 60_000, attemptsMax: 5 };
const END = { ...NEVER_RAN, finish_reason: "stop" } as const;

let cluster: RedisCluster;
beforeAll(async () => void (cluster = await startRedisCluster()), 120_000);
afterAll(() => stopAllChildren());

/** A job that runs, what its channel tells, and a queue of BullMQ, which blocks on a connection of its own. */
async function openShard(url: string) {
  const redis = connectRedis(url, log);
  const subscriber = duplicateConnection(redis, log);
  const commands = commandsOf(redis);
  const store = new JobStore(commands, 60_000);
  const job = newJob();
  const heard: string[] = [];
  subscriber.on("message", (_, message: string) => heard.push(message));
  await subscriber.subscribe(withTag(eventChannel(job.id), tagOf(subscriber)));
  await store.submit(job);
  const { job: claimed } = await new JobLeases(commands).take(TAKE);
  const fence = fenceOf(claimed!.record);
  expect(await store.appendTokens(job.id, fence, 0, { ids: [1], text: "a" })).toBe("ok");
  const queue = new Queue("test", { connection: redis, prefix: tagOf(redis) });
  queue.on("error", () => {});
  const done: string[] = [];
  const process = async ({ name }: { name: string }) => void done.push(name);
  const options = { connection: redis, concurrency: 1, lockMs: 5_000, log };
  const worker = startQueueWorker("test", process, options);
  onTestFinished(async () => {
    await worker.close(true);
    redis.disconnect();
    subscriber.disconnect();
  });
  await queue.add("before", {});
  await expect.poll(() => done, { timeout: 30_000 }).toEqual(["before"]);
  return { commands, store, job, fence, heard, queue, done };
}

async function keysOf(node: RedisServer): Promise<string[]> {
  const redis = await connectOnce(node.url);
  onTestFinished(() => redis.disconnect());
  return redis.keys("*");
}

test("the shards of one cluster lie on its nodes, and each has its own keys, channels and queues", async () => {
  const urls = shardUrls(`${cluster.url}?shards=2`);
  const shards = await Promise.all(urls.map(openShard));
  const all = shards.map(({ commands }) => commands);
  const checks = all.map((redis, place) => checkShard(redis, place, 2, async () => all));
  expect(await Promise.all(checks)).toEqual([null, null]);
  expect(await Promise.all(all.map(shardNumber))).toEqual([0, 1]);
  for (const [n, node] of [cluster.owner, cluster.other].entries()) {
    const { store, job, fence, heard } = shards[n]!;
    expect(await store.finish(job.id, fence, "succeeded", "a", END)).toBe(true);
    await expect.poll(() => heard.at(-1)).toContain("succeeded");
    const keys = await keysOf(node);
    expect(keys).toContain(withTag(jobKey(job.id), TAGS[n]!));
    expect(keys.filter((key) => !key.startsWith(`${TAGS[n]}:`))).toEqual([]);
  }
});

test(
  "commands find the node that holds the keys, also after a failover",
  { timeout: 120_000 },
  async () => {
    const { store, job, fence, heard, queue, done } = await openShard(cluster.url);
    // A command of a client that does not reconnect. The first node of its URL is down.
    const once = await connectOnce(cluster.url.replace("://", "://127.0.0.1:1,"));
    expect(await new KeyRegistry(once).create("test")).toMatchObject({ key: expect.any(String) });
    once.disconnect();
    await cluster.replaceOwner();
    expect(await store.appendTokens(job.id, fence, 1, { ids: [2], text: "b" })).toBe("ok");
    expect(await store.finish(job.id, fence, "succeeded", "ab", END)).toBe(true);
    await queue.add("after", {});
    await expect.poll(() => done, { timeout: 60_000 }).toEqual(["before", "after"]);
    expect((await store.log(job.id)).map(({ type }) => type)).toEqual([
      "queued",
      "started",
      "tokens",
      "tokens",
      "succeeded",
    ]);
    expect(heard.at(-1)).toContain("succeeded");
  },
);

test("the first shards of a cluster lie on different nodes, if these have equal parts of the slots", async () => {
  const redis = await connectOnce(cluster.other.url);
  onTestFinished(() => redis.disconnect());
  const slots = await Promise.all(TAGS.map((tag) => redis.cluster("KEYSLOT", `${tag}:`)));
  const nodeOf = (slot: number, nodes: number) => Math.floor((slot * nodes) / 16_384);
  for (let nodes = 1; nodes <= TAGS.length; nodes++) {
    const first = slots.slice(0, nodes).map((slot) => nodeOf(slot, nodes));
    expect(first.toSorted((a, b) => a - b)).toEqual([...first.keys()]);
  }
  for (const nodes of [2, 3, 4]) {
    for (let count = 1; count <= TAGS.length; count++) {
      const shards = Array.from({ length: nodes }, () => 0);
      for (const slot of slots.slice(0, count)) shards[nodeOf(slot, nodes)]! += 1;
      expect(Math.max(...shards) - Math.min(...shards)).toBeLessThan(2);
    }
  }
});
