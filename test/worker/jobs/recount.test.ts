/** Jobs that the release before ended during an upgrade count no more. */
import { Redis } from "ioredis";
import { afterAll, expect, test } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { JobLists, type JobFilter } from "../../../shared/jobs/job-lists.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import {
  FLOW_TOKENS_PREFIX,
  JOB_EXPIRY_KEY,
  JOB_INDEX_PREFIX,
  jobKey,
  KEY_JOBS_PREFIX,
  REQUEST_BYTES_KEY,
  WAITING_JOBS_KEY,
} from "../../../shared/redis/keys.ts";
import { Recount } from "../../../worker/jobs/recount.ts";
import { claimJob } from "../../support/claim.ts";
import { newJob } from "../../support/generation.ts";

const server = await startRedis();
const redis = new Redis(server.url);
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

const store = new JobStore(redis, 60_000);
const limits = { requests_per_minute: null, tokens_per_minute: null, concurrent_jobs: 10 };

test("ended and deleted jobs leave their keys, and their bytes are free", async () => {
  const registry = new KeyRegistry(redis);
  const { id: maker, tenant } = await registry.create("maker", undefined, {
    scopes: ["admin"],
    limits: { concurrent_jobs: 10 },
  });
  const { id: child } = await registry.create(
    "child",
    tenant,
    undefined,
    await registry.get(maker),
  );
  await registry.revoke(maker);
  const pools = [child, maker].map((id) => ({ id, limits }));
  const submit = async (count: number) => {
    const first = newJob({ tenant });
    const jobs = Array.from({ length: count }, (_, i) => ({ ...first, id: `${first.id}-${i}` }));
    const tokens = jobs.map(() => 10);
    await store.submitAll(jobs, { pools, tokens, idempotency: null });
    return jobs.map(({ id }) => id);
  };
  const held = async () => Number(await redis.hget(REQUEST_BYTES_KEY, tenant));

  const [waiting, running] = [await submit(2), await submit(1)];
  await claimJob(redis, running[0]!);
  const before = await held();
  // The release before knows one pool of a job, by this name.
  expect(await redis.hget(jobKey(waiting[0]!), "keyId")).toBe(child);
  const [cancelled, deleted] = [await submit(1), await submit(2)];
  const deletedAtMs = Date.now() + 60_000;
  await redis.hset(jobKey(cancelled[0]!), "state", "cancelled", "deletedAtMs", deletedAtMs);
  await redis.del(...deleted.map(jobKey));
  expect(await held()).toBeGreaterThan(before);

  // As the release before claims and ends jobs: they stay where they were listed.
  const [old] = await submit(1);
  const listed = async (filter: JobFilter) =>
    (
      await new JobLists(redis).ids(tenant, filter, { limit: 9, isDescending: false, after: null })
    ).ids.toSorted();
  await redis.hset(jobKey(old!), "state", "succeeded", "deletedAtMs", deletedAtMs);
  await redis.zrem(`${JOB_INDEX_PREFIX}${tenant}:running`, running[0]!);

  await new Recount(redis).step();
  expect(await listed({ state: "queued" })).toEqual(waiting.toSorted());
  expect(await listed({ state: "running" })).toEqual(running);
  expect(await listed({ state: "succeeded" })).toEqual([old]);
  expect(await listed({ state: "cancelled" })).toEqual(cancelled);
  expect(await redis.zcard(JOB_EXPIRY_KEY)).toBe(2);
  expect(await redis.hgetall(`${FLOW_TOKENS_PREFIX}atlas-qa`)).toEqual({ [tenant]: "20" });
  expect((await redis.zrange(WAITING_JOBS_KEY, "0", "-1")).toSorted()).toEqual(waiting.toSorted());
  expect(await held()).toBe(before);
  for (const { id } of pools) {
    const jobs = await redis.smembers(KEY_JOBS_PREFIX + id);
    expect(new Set(jobs)).toEqual(new Set([...waiting, ...running]));
  }
  for (const id of [...waiting, ...running]) await store.delete(id);
  expect(await redis.hexists(REQUEST_BYTES_KEY, tenant)).toBe(0);
});
