/** The repair of the queue: jobs as the release before lanes wrote them are assigned to lanes, and its keys are deleted. */
import { Queue } from "bullmq";
import { Redis } from "ioredis";
import { pino } from "pino";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { JobLeases } from "../../../shared/jobs/leases.ts";
import type { NewJob } from "../../../shared/jobs/record.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { DUE_KEY, jobKey, logKey, OLD_QUEUE, TAG } from "../../../shared/redis/keys.ts";
import { startQueueRepair } from "../../../worker/jobs/queue-repair.ts";
import { newJob } from "../../support/generation.ts";

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url, { maxRetriesPerRequest: null });
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** Writes a job as release 0.1 did: into its fair queue, with a BullMQ job as its permit. */
async function writeOldJob(
  { id, tenant, generation, requestOptions, metadata }: NewJob,
  changes: Readonly<Record<string, string | number>>,
): Promise<void> {
  const deadlineMs = Date.now() + 60_000;
  await redis.hset(jobKey(id), {
    id,
    tenant,
    state: "queued",
    attempt: 0,
    generation: JSON.stringify(generation),
    requestOptions: JSON.stringify(requestOptions),
    webhookUrl: "",
    metadata: JSON.stringify(metadata),
    createdAtMs: Date.now(),
    deadlineMs,
    priority: 0,
    cost: 10,
    flow: tenant,
    seq: 1,
    ...changes,
  });
  await redis.xadd(logKey(id), "1-0", "type", "queued", "data", "{}");
  await redis.zadd(DUE_KEY, deadlineMs, id);
}

test("a queued and a running job of the release before lanes are taken, and its keys are deleted", async () => {
  const [queued, running] = [newJob(), newJob()];
  await writeOldJob(queued, {});
  const attempt = { state: "running", attempt: 1, tokens: 2, claimedTokens: 0, lostAttempts: 0 };
  await writeOldJob(running, {
    ...attempt,
    seq: 2,
    claimedAtMs: 1,
    startedAtMs: 1,
    lastTokenAtMs: 2,
  });
  const data = JSON.stringify({ ids: [1, 2], text: "so far" });
  await redis.xadd(logKey(running.id), "2-0", "type", "tokens", "data", data);
  await redis.zadd(OLD_QUEUE.waitingFlows, 0, "acme");
  await redis.zadd(`${OLD_QUEUE.flow}acme`, 1, queued.id);
  await redis.hset(OLD_QUEUE.counters, "arrivals", 1);
  await redis.hset(OLD_QUEUE.tokens, "acme", 10);
  await redis.hset(OLD_QUEUE.permits, running.id, running.id);
  const permits = new Queue(OLD_QUEUE.queue, { connection: redis, prefix: TAG });
  await permits.add("generate", {}, { jobId: queued.id });

  const store = new JobStore(redis, 60_000);
  const stop = startQueueRepair({ connection: redis, store, log: pino({ level: "silent" }) });
  const leftOver = async () => {
    const keys = await redis.keys(`${TAG}:${OLD_QUEUE.queue}:*`);
    const { queue: _, flow, ...fixed } = OLD_QUEUE;
    return keys.length + (await redis.exists(...Object.values(fixed), `${flow}acme`));
  };
  await vi.waitUntil(async () => (await leftOver()) === 0, { timeout: 30_000 });
  stop();

  const leases = new JobLeases(redis);
  const order = { takesJobs: true, leaseMs: 60_000, attemptsMax: 3 };
  const first = await leases.take({ ...order, lanes: [["atlas-qa", "a"]] });
  expect(first.job?.record).toMatchObject({ id: queued.id, attempt: 1, lane: "atlas-qa" });
  expect(await store.record(running.id)).toMatchObject({ lane: "atlas-qa" });
  expect(await store.textSoFar(running.id)).toBe("so far");
  // Its worker may still run it, so it gets a lease first.
  expect(first.job?.record.id).not.toBe(running.id);
  expect(await leases.renew([{ id: running.id, attempt: 1, claim: "" }], 0)).toEqual(["kept"]);
  const second = await leases.take({ ...order, lanes: [["atlas-qa", "any"]] });
  expect(second.job?.record).toMatchObject({ id: running.id, attempt: 2, tokens: 2 });
});
