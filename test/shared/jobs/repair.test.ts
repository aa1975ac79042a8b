/** The repair of the queue: jobs that lost their place in it. */
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { JobLeases } from "../../../shared/jobs/leases.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { FLOW_QUEUE_PREFIX, LEASES_PREFIX } from "../../../shared/redis/keys.ts";
import { claimJob } from "../../support/claim.ts";
import { newJob } from "../../support/generation.ts";

const LANE = "atlas-qa";

let server: RedisServer;
let redis: Redis;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
});
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

test("the repair puts a waiting job back into its lane, and gives a running one a lease", async () => {
  const store = new JobStore(redis, 60_000);
  const leases = new JobLeases(redis);
  const take = () =>
    leases.take({ lanes: [[LANE, "a"]], takesJobs: true, leaseMs: 60_000, attemptsMax: 3 });
  const [waiting, running] = [newJob().id, newJob().id];
  for (const id of [waiting, running]) await store.submit(newJob({ id }));
  await claimJob(redis, running);
  for (const key of await redis.keys(`${FLOW_QUEUE_PREFIX}*`)) await redis.del(key);
  for (const key of await redis.keys(`${LEASES_PREFIX}*`)) await redis.del(key);
  expect((await take()).job).toBeNull();
  await store.repair([waiting, running, "job_gone"]);
  expect((await take()).job?.record.id).toBe(waiting);
  expect((await take()).waitMs).toBeLessThanOrEqual(30_000);
  const before = await redis.zcard(`${LEASES_PREFIX}++${LANE}`);
  await store.repair([waiting, running]);
  expect(await redis.zcard(`${LEASES_PREFIX}++${LANE}`)).toBe(before);
});
