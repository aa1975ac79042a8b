/** The way of a job, of a queue of BullMQ and of channels over a Redis Cluster whose keys move from node to node. */
import { Queue } from "bullmq";
import { pino } from "pino";
import { expect, onTestFinished, test } from "vitest";
import { connectRedis as connectOnce } from "../../../infra/stack/redis.ts";
import { fenceOf } from "../../../shared/jobs/fence.ts";
import { JobLeases } from "../../../shared/jobs/leases.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { QUEUE_PREFIX } from "../../../shared/redis/keys.ts";
import { connectRedis, duplicateConnection } from "../../../worker/redis/connection.ts";
import { startQueueWorker } from "../../../worker/redis/queue-worker.ts";
import { newJob } from "../../support/generation.ts";
import { startRedisCluster } from "../../support/redis-cluster.ts";

const log = pino({ level: "silent" });
const LANES = [["atlas-qa", "weights"]] as const;

test(
  "commands find the node that holds the keys, also after a failover",
  { timeout: 120_000 },
  async () => {
    const cluster = await startRedisCluster();
    const redis = connectRedis(cluster.url, log);
    const subscriber = duplicateConnection(redis, log);
    onTestFinished(() => {
      redis.disconnect();
      subscriber.disconnect();
    });
    const heard: string[] = [];
    subscriber.on("message", (_, message: string) => heard.push(message));
    const store = new JobStore(redis, 60_000);
    const leases = new JobLeases(redis);
    const job = newJob();
    await subscriber.subscribe(`{trimtab}:events:${job.id}`);
    await store.submit(job);
    const take = { lanes: LANES, takesJobs: true, leaseMs: 60_000, attemptsMax: 5 };
    const { job: claimed } = await leases.take(take);
    const fence = fenceOf(claimed!.record);
    expect(await store.appendTokens(job.id, fence, 0, { ids: [1], text: "a" })).toBe("ok");
    // A command of a client that does not reconnect. The first node of its URL is down.
    const once = await connectOnce(cluster.url.replace("://", "://127.0.0.1:1,"));
    expect(await new KeyRegistry(once).create("test")).toMatchObject({ key: expect.any(String) });
    once.disconnect();
    // Queues of BullMQ, which blocks on a connection of its own.
    const queue = new Queue("test", { connection: redis, prefix: QUEUE_PREFIX });
    queue.on("error", () => {});
    const done: string[] = [];
    const process = async ({ name }: { name: string }) => void done.push(name);
    const options = { connection: redis, concurrency: 1, lockMs: 5_000, log };
    const worker = startQueueWorker("test", process, options);
    onTestFinished(() => worker.close(true));
    await queue.add("before", {});
    await expect.poll(() => done, { timeout: 30_000 }).toEqual(["before"]);

    await cluster.replaceOwner();
    expect(await store.appendTokens(job.id, fence, 1, { ids: [2], text: "b" })).toBe("ok");
    const end = { ...NEVER_RAN, finish_reason: "stop" } as const;
    expect(await store.finish(job.id, fence, "succeeded", "ab", end)).toBe(true);
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
