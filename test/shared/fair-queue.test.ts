/** Whose job is next, and who waits for whom. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { FairQueue } from "../../shared/fair-queue.ts";
import type { NewJob } from "../../shared/job.ts";
import { JobStore, NEVER_RAN } from "../../shared/job-store.ts";
import { permitLockKey } from "../../shared/redis-keys.ts";
import { newJob } from "../support/generation.ts";

let server: RedisServer;
let redis: Redis;
let store: JobStore;
let queue: FairQueue;
let permits = 0;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  store = new JobStore(redis, 60_000);
  queue = new FairQueue(redis);
});
afterEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** Submits jobs of a tenant that may cost so many tokens each. */
async function submitted(
  tenant: string,
  count = 1,
  tokens = 100,
  changes: Partial<NewJob> = {},
): Promise<string[]> {
  const jobs = Array.from({ length: count }, () => newJob({ tenant, ...changes }));
  for (const job of jobs) {
    const admission = { keyId: null, limits: {}, tokens: [tokens], repetition: null };
    await store.submitAll([job], admission);
  }
  return jobs.map(({ id }) => id);
}

/** As the worker does that BullMQ gave the permit to. */
async function takeWith(id: string) {
  await redis.set(permitLockKey(id), "token");
  return queue.take({ id, token: "token" });
}

const take = async () => (await takeWith(`permit ${++permits}`))?.id ?? null;
const takeAll = (count: number) => Array.fromAsync({ length: count }, take);

test("a job that comes after another tenant's 200 is next but one at most, and theirs keep their order", async () => {
  const flood = await submitted("a", 200);
  const before = await takeAll(20);
  const [late] = await submitted("b");
  const after = await takeAll(3);
  expect(after.slice(0, 2)).toContain(late);
  expect([...before, ...after].filter((id) => id !== late)).toEqual(flood.slice(0, 22));
});

test("tenants that keep waiting are served the same tokens, whatever the size of their jobs", async () => {
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

test("what a job did not use is its tenant's again", async () => {
  const [big] = await submitted("a", 1, 10_000);
  expect(await take()).toBe(big);
  await store.claim(big!, 3);
  const usage = { ...NEVER_RAN.usage, total_tokens: 10 };
  await store.finish(big!, 1, "succeeded", "", { ...NEVER_RAN, usage });
  const [next] = await submitted("a");
  const others = await submitted("b", 3);
  expect(new Set(await takeAll(2))).toEqual(new Set([next, others[0]]));
});

test("who was idle has saved nothing up", async () => {
  const flood = await submitted("a", 60);
  await takeAll(40);
  await submitted("b", 20);
  const next = await takeAll(20);
  const ofFlood = next.filter((id) => flood.includes(id!)).length;
  expect(Math.abs(ofFlood - 10)).toBeLessThanOrEqual(1);
});

test("priority orders a tenant's own jobs, and gains it nothing against others", async () => {
  const [low] = await submitted("a", 1, 100, { priority: -10 });
  const [first, second] = await submitted("a", 2);
  const [high] = await submitted("a", 1, 100, { priority: 10 });
  const others = await submitted("b", 4);
  const order = await takeAll(8);
  expect(order.filter((id) => !others.includes(id!))).toEqual([high, first, second, low]);
  expect(order.slice(0, 4).filter((id) => others.includes(id!))).toHaveLength(2);
});

test("batches are served when nobody waits, and share among themselves", async () => {
  const ofBatch = (tenant: string) => submitted(tenant, 10, 100, { asked: { batch: "b" } });
  const [first, second] = [await ofBatch("a"), await ofBatch("b")];
  expect(await take()).toBe(first[0]);
  const waiting = await submitted("a", 5);
  expect(await takeAll(5)).toEqual(waiting);
  const rest = await takeAll(8);
  expect(rest.filter((id) => second.includes(id!))).toHaveLength(4);
});

test("what is before a job is what is taken before it", async () => {
  await submitted("a", 30);
  await takeAll(7);
  await submitted("b", 5);
  const [id] = (await submitted("a", 1, 100, { priority: 1 })) as [string];
  const [last] = (await submitted("b", 1)) as [string];
  const asNew = await queue.aheadOfNew("c", 0);
  const aheads = await Promise.all([
    queue.aheadOf({ id, tenant: "a", asked: {} }),
    queue.aheadOf({ id: last, tenant: "b", asked: {} }),
  ]);
  const [mine] = (await submitted("c")) as [string];
  const order = await takeAll(20);
  const places = [id, last].map((job) => order.filter((other) => other !== mine).indexOf(job));
  expect(aheads).toEqual(
    places.map((jobs) => ({
      // Tenants with the same tag are ordered by name, which the estimate does not look at.
      jobs: expect.closeTo(jobs, -0.4) as number,
      tokens: expect.closeTo(jobs * 100, -2.4) as number,
    })),
  );
  expect(order.indexOf(mine) - asNew.jobs).toBeLessThanOrEqual(2);
  expect(await queue.aheadOf({ id, tenant: "a", asked: {} })).toBeNull();
});

test("a permit is for the same job until that has ended, and says whether it was lost without a token", async () => {
  const [id] = (await submitted("a")) as [string];
  const [other] = (await submitted("a")) as [string];
  expect(await takeWith("p")).toEqual({ id, isSuspect: false });
  expect(await takeWith("p")).toEqual({ id, isSuspect: false });
  await store.claim(id, 3);
  expect(await takeWith("p")).toEqual({ id, isSuspect: true });
  await store.appendTokens(id, 1, 0, { ids: [1], text: "a" });
  expect(await takeWith("p")).toEqual({ id, isSuspect: false });
  // Its worker has lost it to another, which uses the same permit.
  await queue.useUp("p", id);
  expect(await takeWith("p")).toMatchObject({ id });
  await store.finish(id, 1, "succeeded", "", NEVER_RAN);
  await queue.useUp("p", id);
  expect(await takeWith("p")).toEqual({ id: other, isSuspect: false });
});

test("a permit that is another's by now takes nothing", async () => {
  const [id] = (await submitted("a")) as [string];
  await redis.set(permitLockKey("p"), "another");
  expect(await queue.take({ id: "p", token: "token" })).toBeNull();
  expect(await queue.take({ id: "gone", token: "token" })).toBeNull();
  expect(await queue.waiting(10)).toEqual([id]);
});

test("a job that ended while it waited is not taken, and leaves nothing behind", async () => {
  const [cancelled, deleted, expired] = (await submitted("a", 3)) as [string, string, string];
  await store.cancel(cancelled);
  await store.delete(deleted);
  await store.giveUp((await store.record(expired))!, "expired", null);
  expect(await take()).toBeNull();
  expect(await redis.keys("*waiting*")).toEqual([]);
  expect(await redis.exists("{trimtab}:fair:tokens")).toBe(0);
});
