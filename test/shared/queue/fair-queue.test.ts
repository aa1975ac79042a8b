/** The order in which waiting jobs are taken, within and between tenants. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { FairQueue } from "../../../shared/queue/fair-queue.ts";
import { fenceOf } from "../../../shared/jobs/fence.ts";
import { JobLeases } from "../../../shared/jobs/leases.ts";
import type { NewJob } from "../../../shared/jobs/record.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import {
  FLOW_TOKENS_PREFIX,
  IDLE_FLOWS_PREFIX,
  jobKey,
  LANE_COUNTERS_PREFIX,
} from "../../../shared/redis/keys.ts";
import { newJob } from "../../support/generation.ts";

let server: RedisServer;
let redis: Redis;
let store: JobStore;
let leases: JobLeases;
let queue: FairQueue;

/** The lane of all jobs. */
const LANE = "atlas-qa";

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  store = new JobStore(redis, 60_000);
  leases = new JobLeases(redis);
  queue = new FairQueue(redis);
});
afterEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** Submits jobs of a tenant, each with a cost of so many tokens. */
async function submitted(
  tenant: string,
  count = 1,
  tokens = 100,
  changes: Partial<NewJob> = {},
): Promise<string[]> {
  const jobs = Array.from({ length: count }, () => newJob({ tenant, ...changes }));
  for (const job of jobs) {
    const admission = { pools: [], tokens: [tokens], idempotency: null };
    await store.submitAll([job], admission);
  }
  return jobs.map(({ id }) => id);
}

async function take(): Promise<string | null> {
  const { job } = await leases.take({
    lanes: [[LANE, "weights"]],
    takesJobs: true,
    leaseMs: 60_000,
    attemptsMax: 3,
  });
  return job?.record.id ?? null;
}

/** Ends a running job that has used so many tokens. */
async function end(id: string, tokens: number): Promise<void> {
  const usage = { ...NEVER_RAN.usage, total_tokens: tokens };
  const fence = fenceOf((await store.record(id))!);
  expect(await store.finish(id, fence, "succeeded", "", { ...NEVER_RAN, usage })).toBe(true);
}

const takeAll = (count: number) => Array.fromAsync({ length: count }, take);

test("a job submitted after 200 jobs of another tenant is among the next two, and the others keep their order", async () => {
  const flood = await submitted("a", 200);
  const before = await takeAll(20);
  const [late] = await submitted("b");
  const after = await takeAll(3);
  expect(after.slice(0, 2)).toContain(late);
  expect([...before, ...after].filter((id) => id !== late)).toEqual(flood.slice(0, 22));
});

test("tenants with waiting jobs get equally many tokens, whatever the cost of their jobs", async () => {
  const sizes = { a: 300, b: 100, c: 20 };
  const owners = new Map<string, keyof typeof sizes>();
  for (const [tenant, size] of Object.entries(sizes)) {
    for (const id of await submitted(tenant, 4_000 / size, size)) {
      owners.set(id, tenant as keyof typeof sizes);
    }
  }
  const served = { a: 0, b: 0, c: 0 };
  for (const id of await takeAll(150)) served[owners.get(id!)!] += sizes[owners.get(id!)!];
  const tokens = Object.values(served);
  expect(Math.min(...tokens)).toBeGreaterThan(1_000);
  expect(Math.max(...tokens) - Math.min(...tokens)).toBeLessThanOrEqual(300);
});

test("tokens that a job did not use are given back to its tenant", async () => {
  const [big] = await submitted("a", 1, 10_000);
  expect(await take()).toBe(big);
  await end(big!, 10);
  const [next] = await submitted("a");
  const others = await submitted("b", 3);
  expect(new Set(await takeAll(2))).toEqual(new Set([next, others[0]]));
});

test("tokens that a job used beyond its estimate are charged to its tenant", async () => {
  const [small] = await submitted("a", 1, 10);
  await submitted("b", 1, 10);
  await takeAll(2);
  await end(small!, 1_000);
  const mine = await submitted("a", 5);
  const others = await submitted("b", 9);
  expect((await takeAll(10)).filter((id) => others.includes(id!)).length).toBeGreaterThanOrEqual(8);
  expect(await takeAll(4)).toEqual(expect.arrayContaining(mine.slice(-3)));
});

test("virtual time never decreases, also when a waiting tenant gets back what its job did not use", async () => {
  const virtualTime = async () =>
    Number(await redis.hget(LANE_COUNTERS_PREFIX + LANE, "virtualTime"));
  const [big] = await submitted("a", 1, 10_000);
  await submitted("a");
  expect(await take()).toBe(big);
  const flood = await submitted("b", 100);
  await takeAll(50);
  const before = await virtualTime();
  expect(before).toBeGreaterThan(1_000);
  await end(big!, 10);
  await take();
  expect(await virtualTime()).toBeGreaterThanOrEqual(before);
  // A tenant that comes now starts at the virtual time, and not before the tenants that wait.
  await submitted("c", 10);
  const next = await takeAll(10);
  expect(next.filter((id) => flood.includes(id!)).length).toBeGreaterThanOrEqual(4);
});

test("a tenant that was idle gets no priority for it afterwards", async () => {
  const flood = await submitted("a", 60);
  await takeAll(40);
  await submitted("b", 20);
  const next = await takeAll(20);
  const ofFlood = next.filter((id) => flood.includes(id!)).length;
  expect(Math.abs(ofFlood - 10)).toBeLessThanOrEqual(1);
});

test("priority orders the jobs of a tenant, and does not favour it over other tenants", async () => {
  const [low] = await submitted("a", 1, 100, { priority: -10 });
  const [first, second] = await submitted("a", 2);
  const [high] = await submitted("a", 1, 100, { priority: 10 });
  const others = await submitted("b", 4);
  const order = await takeAll(8);
  expect(order.filter((id) => !others.includes(id!))).toEqual([high, first, second, low]);
  expect(order.slice(0, 4).filter((id) => others.includes(id!))).toHaveLength(2);
});

test("jobs of batches are taken when no other job waits, and share between tenants", async () => {
  const ofBatch = (tenant: string) =>
    submitted(tenant, 10, 100, { requestOptions: { batch: "b" } });
  const [first, second] = [await ofBatch("a"), await ofBatch("b")];
  expect(await take()).toBe(first[0]);
  const waiting = await submitted("a", 5);
  expect(await takeAll(5)).toEqual(waiting);
  const rest = await takeAll(8);
  expect(rest.filter((id) => second.includes(id!))).toHaveLength(4);
});

test("the work ahead of a job is what is taken before it", async () => {
  await submitted("a", 30);
  await takeAll(7);
  await submitted("b", 5);
  const [id] = (await submitted("a", 1, 100, { priority: 1 })) as [string];
  const [last] = (await submitted("b", 1)) as [string];
  const asNew = await queue.workAheadOfNewJob(LANE, "c", 0);
  const aheads = await Promise.all([
    queue.workAhead({ id, tenant: "a", lane: LANE, requestOptions: {} }),
    queue.workAhead({ id: last, tenant: "b", lane: LANE, requestOptions: {} }),
  ]);
  const [mine] = (await submitted("c")) as [string];
  const order = await takeAll(20);
  const places = [id, last].map((job) => order.filter((other) => other !== mine).indexOf(job));
  expect(aheads).toEqual(
    places.map((jobs) => ({
      // Flows with the same start tag are ordered by name, which the estimate ignores.
      jobs: expect.closeTo(jobs, -0.4) as number,
      tokens: expect.closeTo(jobs * 100, -2.4) as number,
    })),
  );
  expect(order.indexOf(mine) - asNew.jobs).toBeLessThanOrEqual(2);
  expect(await queue.workAhead({ id, tenant: "a", lane: LANE, requestOptions: {} })).toBeNull();
});

test("a job that ended while it waited is not taken, and leaves nothing in the queue", async () => {
  const [cancelled, deleted, expired] = (await submitted("a", 3)) as [string, string, string];
  await store.cancel(cancelled);
  await store.delete(deleted);
  await store.endWithError((await store.record(expired))!, "expired", null);
  expect(await take()).toBeNull();
  const left = await redis.keys("*");
  expect(left.filter((key) => /lane|waiting|leases/.test(key))).toEqual([
    LANE_COUNTERS_PREFIX + LANE,
  ]);
});

test("an empty lane keeps no tokens of lost jobs, and forgets its counters and tags after a while", async () => {
  const [lost] = await submitted("a");
  await redis.del(jobKey(lost!));
  expect(await take()).toBeNull();
  expect(await redis.exists(FLOW_TOKENS_PREFIX + LANE)).toBe(0);
  const [first] = await submitted("a");
  expect(await redis.pttl(LANE_COUNTERS_PREFIX + LANE)).toBe(-1);
  expect(await take()).toBe(first);
  for (const prefix of [LANE_COUNTERS_PREFIX, IDLE_FLOWS_PREFIX]) {
    expect(await redis.pttl(prefix + LANE)).toBeGreaterThan(0);
  }
});
