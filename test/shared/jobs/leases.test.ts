/** Which running jobs a worker may take over, and which waiting jobs it takes, by lane, fingerprint and lease. */
import { Redis } from "ioredis";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { fenceOf } from "../../../shared/jobs/fence.ts";
import { JobLeases } from "../../../shared/jobs/leases.ts";
import type { NewJob } from "../../../shared/jobs/record.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import type { TakeOrder } from "../../../shared/jobs/take-script.ts";
import {
  FLOW_QUEUE_PREFIX,
  jobKey,
  LEASE_GROUPS_KEY,
  LEASES_PREFIX,
  SIGNALS_CHANNEL,
  SUSPECTS_PREFIX,
} from "../../../shared/redis/keys.ts";
import { JOB_VERSION } from "../../../shared/redis/version.ts";
import { claimJob } from "../../support/claim.ts";
import { generation, newJob } from "../../support/generation.ts";

const LANE = "atlas-qa";
const ATTEMPTS_MAX = 3;

let server: RedisServer;
let redis: Redis;
let store: JobStore;
let leases: JobLeases;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  store = new JobStore(redis, 60_000);
  leases = new JobLeases(redis);
});
afterEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

async function submitted(changes: Partial<NewJob> = {}): Promise<string> {
  const job = newJob(changes);
  await store.submit(job);
  return job.id;
}

/** Takes as a worker with these weights. @param leaseMs of the lease; 0 for one that expires at once */
const take = (fingerprint = "a", changes: Partial<TakeOrder> = {}, worker: JobLeases = leases) =>
  worker.take({
    lanes: [[LANE, fingerprint]],
    takesJobs: true,
    leaseMs: 60_000,
    attemptsMax: ATTEMPTS_MAX,
    ...changes,
  });
const takenId = async (...args: Parameters<typeof take>) =>
  (await take(...args)).job?.record.id ?? null;
/** The job's last attempt. */
const attemptOf = async (id: string) => (await store.record(id))!;
const append = async (id: string) => store.appendTokens(id, fenceOf(await attemptOf(id)), 0, token);
const LOST = { leaseMs: 0 };
const token = { ids: [1], text: "a" };

test("a taken job is claimed, and its record has the attempt, the weights and the lease", async () => {
  const id = await submitted();
  const { job } = await take("a");
  expect(job).toMatchObject({
    status: "claimed",
    previousAttempt: null,
    record: { id, state: "running", attempt: 1, lane: LANE, fingerprint: "a" },
  });
  expect(await takenId()).toBeNull();
  expect((await take()).waitMs).toBeGreaterThan(50_000);
  expect(await store.log(id)).toMatchObject([
    { seq: 1, type: "queued" },
    { seq: 2, type: "started", attempt: 1 },
  ]);
});

/** A client of Redis whose scripts run, but whose replies are lost while `isLosing`. */
function lossyRedis(isLosing: () => boolean): Redis {
  const lossy = redis.duplicate();
  const evalsha = lossy.evalsha.bind(lossy) as (...args: unknown[]) => Promise<unknown>;
  lossy.evalsha = async (...args: unknown[]) => {
    const reply = await evalsha(...args);
    if (isLosing()) throw new Error("The connection was lost");
    return reply;
  };
  return lossy;
}

test("a claim whose reply was lost is repeated: sent again by the client, or after an error", async () => {
  // ioredis sends a command without a reply again on the next connection.
  const resending = redis.duplicate();
  const evalsha = resending.evalsha.bind(resending) as (...args: unknown[]) => Promise<unknown>;
  resending.evalsha = async (...args: unknown[]) => {
    await evalsha(...args);
    return evalsha(...args);
  };
  const ids = [await submitted(), await submitted(), await submitted()];
  const worker = new JobLeases(resending);
  const first = (await take("a", {}, worker)).job;
  expect(first).toMatchObject({ record: { id: ids[0], attempt: 1 }, previousAttempt: null });
  expect((await take("a", {}, worker)).job).toMatchObject({ record: { id: ids[1], attempt: 1 } });

  let isLosing = true;
  const lossy = lossyRedis(() => isLosing);
  const other = new JobLeases(lossy);
  await expect(take("a", {}, other)).rejects.toThrow("The connection was lost");
  isLosing = false;
  expect((await take("a", {}, other)).job).toMatchObject({ record: { id: ids[2], attempt: 1 } });
  expect((await take("a", {}, other)).job).toBeNull();
  resending.disconnect();
  lossy.disconnect();
});

test("a claim is not repeated if another worker has claimed the job meanwhile", async () => {
  let isLosing = true;
  const lossy = lossyRedis(() => isLosing);
  const id = await submitted();
  const worker = new JobLeases(lossy);
  await expect(take("a", LOST, worker)).rejects.toThrow("The connection was lost");
  await claimJob(redis, id);
  isLosing = false;
  expect((await take("a", {}, worker)).job).toBeNull();
  lossy.disconnect();
});

/** Takes a copy of all keys. @returns a function that restores it */
async function snapshot(): Promise<() => Promise<void>> {
  const names = await redis.keys("*");
  const dumps = await Promise.all(names.map((name) => redis.dumpBuffer(name)));
  return async () => {
    await redis.flushall();
    for (const [i, name] of names.entries()) await redis.restore(name, 0, dumps[i]!);
  };
}

test("a worker whose claim a failover of Redis lost is refused, though the next attempt has the same number", async () => {
  const id = await submitted();
  const restore = await snapshot();
  await take();
  const lost = await attemptOf(id);
  // The new master has not received the claim.
  await restore();
  await take("a", {}, new JobLeases(redis));
  const current = await attemptOf(id);
  expect([lost.attempt, current.attempt]).toEqual([1, 1]);
  expect(await leases.renew([lost, current], 60_000)).toEqual(["lost", "kept"]);
  expect(await store.recordPrefill(id, fenceOf(lost), 5)).toBe(false);
  expect(await store.appendTokens(id, fenceOf(lost), 0, token)).toBe("fenced");
  expect(await store.finish(id, fenceOf(lost), "succeeded", "", NEVER_RAN)).toBe(false);
  expect(await leases.retryLater(lost)).toBe("lost");
  await leases.release([lost]);
  expect(await takenId()).toBeNull();
  expect(await append(id)).toBe("ok");
});

test("a job is taken only from the lanes that a worker names, in their order", async () => {
  const other = await submitted({ generation: generation({ model: "gsm-mini" }) });
  const pairs = [{ model: "gsm-mini", weight: 1 }];
  const both = await submitted({ generation: generation({ pairs }) });
  const own = await submitted();
  expect([await takenId(), await takenId()]).toEqual([own, null]);
  const lanes = [
    ["atlas-qa+gsm-mini", "a+b"],
    ["gsm-mini", "b"],
  ] as const;
  expect(await takenId("a", { lanes })).toBe(both);
  expect(await takenId("a", { lanes })).toBe(other);
});

test("a job with a token is taken over only with the same weights; one without by any worker of the lane", async () => {
  const id = await submitted();
  await take("a", LOST);
  await append(id);
  expect(await takenId("b")).toBeNull();
  expect((await take("a", LOST)).job).toMatchObject({
    record: { id, attempt: 2, fingerprint: "a" },
    previousAttempt: {
      claimedAtMs: expect.any(Number),
      seenAtMs: expect.any(Number),
      isGivenUp: false,
    },
  });
  const fresh = await submitted();
  await take("a");
  await leases.release([await attemptOf(fresh)]);
  expect((await take("b")).job).toMatchObject({
    record: { id: fresh, fingerprint: "b" },
    previousAttempt: { isGivenUp: true },
  });
});

test("a lease that is renewed is not taken over; the renewal tells what has become of the job", async () => {
  const ids = [await submitted(), await submitted(), await submitted(), await submitted()];
  for (const _ of ids) await take("a", { leaseMs: 2_000 });
  const attempts = await Promise.all(ids.map(attemptOf));
  const [, cancelled, expired, lost] = ids as [string, string, string, string];
  await store.cancel(cancelled);
  await redis.hset(jobKey(expired), "deadlineMs", 1);
  await claimJob(redis, lost);
  const states = await leases.renew(attempts, 60_000);
  expect(states).toEqual(["kept", "cancelled", "expired", "lost"]);
  expect((await take()).waitMs).toBeGreaterThan(50_000);
});

test("a job that was lost before its first token is a suspect: it is taken only where suspects are", async () => {
  const suspect = await submitted();
  await take("a", LOST);
  const next = await submitted();
  // It holds no other job back.
  expect(await take()).toMatchObject({ job: { record: { id: next } } });
  expect(await takenId()).toBeNull();
  expect(await redis.zrange(`${SUSPECTS_PREFIX}++${LANE}`, "0", "-1")).toEqual([suspect]);
  expect(await takenId("a", { suspectAfterMs: 60_000 })).toBeNull();
  expect((await take("b", { takesJobs: false, suspectAfterMs: 0 })).job).toMatchObject({
    status: "claimed",
    record: { id: suspect, attempt: 2 },
  });
  await append(suspect);
  await redis.zadd(`${LEASES_PREFIX}b++${LANE}`, 1, suspect);
  expect(await takenId("b")).toBe(suspect);
});

test("after too many lost attempts in a row a job is exhausted; a given up attempt does not count", async () => {
  const id = await submitted();
  const order = { ...LOST, suspectAfterMs: 0 };
  await take("a", order);
  await leases.release([await attemptOf(id)]);
  for (let i = 2; i < 2 + ATTEMPTS_MAX; i++) {
    expect((await take("a", order)).job).toMatchObject({
      status: "claimed",
      record: { id, attempt: i },
    });
  }
  expect((await take("a", order)).job).toMatchObject({ status: "exhausted", record: { id } });
});

test("a job whose deadline has passed is not run: waiting, or lost with its worker", async () => {
  const waiting = await submitted({ deadlineInMs: -1 });
  expect((await take()).job).toMatchObject({ status: "late", record: { id: waiting, attempt: 0 } });
  const late = await submitted({ startByInMs: -1 });
  expect((await take()).job).toMatchObject({ status: "late", record: { id: late, attempt: 0 } });
  const running = await submitted();
  await take("a", LOST);
  await redis.hset(jobKey(running), "deadlineMs", 1);
  expect((await take()).job).toMatchObject({ status: "late", record: { id: running, attempt: 1 } });
});

test("a suspended worker that logs a token keeps its job, though it was a suspect", async () => {
  const id = await submitted();
  await take("a", LOST);
  expect(await takenId()).toBeNull();
  expect(await redis.zcard(`${SUSPECTS_PREFIX}++${LANE}`)).toBe(1);
  expect(await append(id)).toBe("ok");
  expect(await take("a", { suspectAfterMs: 0 })).toMatchObject({ job: null });
  expect(await redis.exists(`${SUSPECTS_PREFIX}++${LANE}`)).toBe(0);
});

test("a run that throws is tried again after a pause, three times", async () => {
  const id = await submitted();
  await take();
  const first = await attemptOf(id);
  // A client that lost the reply sends the same again: it is one failure.
  for (const _ of [1, 2, 3]) expect(await leases.retryLater(first)).toBe("retried");
  const { job, waitMs } = await take();
  expect(job).toBeNull();
  expect(waitMs).toBeGreaterThan(0);
  expect(waitMs).toBeLessThanOrEqual(1_000);
  await claimJob(redis, id);
  expect(await leases.retryLater(first)).toBe("lost");
  expect(await leases.retryLater(await attemptOf(id))).toBe("retried");
  await claimJob(redis, id);
  expect(await leases.retryLater(await attemptOf(id))).toBe("failed");
});

const toNewer = (id: string) => redis.hset(jobKey(id), "version", JOB_VERSION + 1);
const NEWER_LANE = `${LANE}+@${JOB_VERSION + 1}`;

test("lost jobs of a newer release hide no others, however many there are: they move to a lane of that release", async () => {
  const newer: string[] = [];
  for (let i = 0; i < 40; i++) newer.push(await submitted());
  const own = await submitted();
  for (const _ of [...newer, own]) await take();
  for (const id of newer) await toNewer(id);
  for (const id of newer) await redis.zadd(`${LEASES_PREFIX}++${LANE}`, 1, id);
  await redis.zadd(`${LEASES_PREFIX}++${LANE}`, 2, own);
  // The first of them are suspects.
  for (const id of newer.slice(0, 3)) {
    await redis.zrem(`${LEASES_PREFIX}++${LANE}`, id);
    await redis.zadd(`${SUSPECTS_PREFIX}++${LANE}`, 1, id);
  }
  const order = { suspectAfterMs: 0 };
  let taken = await take("a", order);
  for (let i = 0; taken.job === null && i < 10; i++) {
    expect(taken.waitMs).toBe(0);
    taken = await take("a", order);
  }
  expect(taken.job?.record.id).toBe(own);
  expect(await redis.zcard(`${LEASES_PREFIX}++${NEWER_LANE}`)).toBe(37);
  expect(await redis.zcard(`${SUSPECTS_PREFIX}++${NEWER_LANE}`)).toBe(3);
});

test("one call moves at most 100 waiting jobs of a newer release, and the next one goes on at once", async () => {
  for (let i = 0; i < 150; i++) await toNewer(await submitted());
  const own = await submitted();
  expect(await take()).toMatchObject({ job: null, waitMs: 0 });
  const [queue] = await redis.keys(`${FLOW_QUEUE_PREFIX}${NEWER_LANE}++*`);
  expect(await redis.zcard(queue!)).toBe(100);
  expect(await takenId()).toBe(own);
  expect(await redis.zcard(queue!)).toBe(150);
});

test("an ended job leaves no lease", async () => {
  const id = await submitted();
  await take();
  await append(id);
  await store.finish(id, fenceOf(await attemptOf(id)), "succeeded", "a", NEVER_RAN);
  expect(await redis.scard(LEASE_GROUPS_KEY)).toBe(0);
  expect(await redis.keys(`${LEASES_PREFIX}*`)).toEqual([]);
});

test("workers get signals: work in a lane, a cancelled job, a job that another process ended", async () => {
  const listener = redis.duplicate();
  const heard: string[] = [];
  listener.on("message", (_, message) => heard.push(message));
  await listener.subscribe(SIGNALS_CHANNEL);
  const [cancelled, deleted, expired] = [await submitted(), await submitted(), await submitted()];
  for (const _ of [1, 2, 3]) await take();
  await store.cancel(cancelled);
  await store.delete(deleted);
  await store.endWithError((await store.record(expired))!, "expired", null);
  await expect.poll(() => heard).toHaveLength(6);
  listener.disconnect();
  expect(heard).toEqual([
    ...Array<string>(3).fill(`work ${LANE}`),
    `cancel ${cancelled}`,
    `end ${deleted}`,
    `end ${expired}`,
  ]);
});
