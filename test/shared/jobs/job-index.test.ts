/** The index of jobs and the use: after random submissions, claims, takeovers, ends, deletions and expiries they equal a recount. */
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import type { Usage } from "../../../shared/api/job-parts.ts";
import { isTerminal, type JobState, type TerminalState } from "../../../shared/api/jobs.ts";
import type { NewJob } from "../../../shared/jobs/record.ts";
import { facetsField } from "../../../shared/jobs/facets.ts";
import { setMetadata } from "../../../shared/jobs/metadata.ts";
import { JobLists } from "../../../shared/jobs/job-lists.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import { groupUsage, UsageStore, type UsageEntry } from "../../../shared/usage/store.ts";
import { DAY_MS } from "../../../shared/usage/usage-lua.ts";
import {
  JOB_EXPIRY_KEY,
  JOB_INDEX_PREFIX,
  jobKey,
  REQUEST_BYTES_KEY,
  USAGE_PREFIX,
} from "../../../shared/redis/keys.ts";
import { SeededRandom } from "../../chaos/seeded-random.ts";
import { claimJob } from "../../support/claim.ts";
import { generation, newJob } from "../../support/generation.ts";

const RETENTION_MS = 3_600_000;
const STEPS = 600;

let server: RedisServer;
let redis: Redis;
let store: JobStore;
/** Jobs that this one ends expire at once. */
let expiring: JobStore;

beforeAll(async () => {
  server = await startRedis();
  redis = new Redis(server.url);
  store = new JobStore(redis, RETENTION_MS);
  expiring = new JobStore(redis, 0);
});
beforeEach(() => redis.flushall());
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});

/** Every set of the index that is not empty, with its jobs. */
async function storedIndex(): Promise<Record<string, string[]>> {
  const keys = await redis.keys(`${JOB_INDEX_PREFIX}*`);
  const sets = await Promise.all(keys.map((key) => redis.zrange(key, "0", "-1")));
  return Object.fromEntries(keys.map((key, i) => [key, sets[i]!.toSorted()]));
}

/** The index that these jobs must have. */
async function recount(jobs: Iterable<{ job: NewJob; state: JobState }>) {
  const sets: Record<string, string[]> = {};
  for (const { job, state } of jobs) {
    const facets = await facetsField(job.generation.model, job.metadata, false);
    const states = isTerminal(state) ? [state] : ["open", ...(state === "running" ? [state] : [])];
    for (const facet of ["all", ...states, ...facets.split("\n")])
      (sets[`${JOB_INDEX_PREFIX}${job.tenant}:${facet}`] ??= []).push(job.id);
  }
  return Object.fromEntries(Object.entries(sets).map(([key, ids]) => [key, ids.toSorted()]));
}

interface TestJob {
  readonly job: NewJob;
  readonly key: string;
  state: JobState;
  attempt: number;
  tokens: number;
  promptTokens: number;
  baseCalls: number;
}

/** The use that an ended job adds to its key; the time is not known. */
const usageOf = ({ job, key }: TestJob, state: TerminalState, usage: Usage): UsageEntry => ({
  day: 0,
  owner: key,
  model: job.generation.model,
  succeeded: Number(state === "succeeded"),
  failed: Number(state === "failed"),
  cancelled: Number(state === "cancelled"),
  expired: Number(state === "expired"),
  promptTokens: usage.prompt_tokens,
  cachedTokens: usage.prompt_tokens_details.cached_tokens,
  completionTokens: usage.completion_tokens,
  baseCalls: usage.base_calls!,
  ms: 0,
});

/** The use of a tenant by key and model, without days and times. */
const byKeyAndModel = (entries: readonly UsageEntry[]) =>
  groupUsage(entries, ["owner", "model"])
    .map((entry) => ({ ...entry, day: 0, ms: 0 }))
    .toSorted((a, b) => (a.owner + a.model < b.owner + b.model ? -1 : 1));

test.for([1, 2, 3])("both equal a recount after random steps, seed %i", async (seed) => {
  const random = new SeededRandom(seed);
  const jobs = new Map<string, TestJob>();
  const used = new Map<string, UsageEntry[]>(["acme", "acme-2", "b"].map((name) => [name, []]));
  const today = Math.floor(Date.now() / DAY_MS);
  const ended = (one: TestJob, state: TerminalState, usage: Usage) => {
    used.get(one.job.tenant)!.push(usageOf(one, state, usage));
    one.state = state;
  };
  const loggedUsage = ({ promptTokens, tokens, baseCalls }: TestJob): Usage => ({
    ...NEVER_RAN.usage,
    prompt_tokens: promptTokens,
    completion_tokens: tokens,
    base_calls: baseCalls,
  });
  const pick = (...states: JobState[]) => {
    const found = [...jobs.values()].filter(({ state }) => states.includes(state));
    return found.length === 0 ? null : random.pick(found);
  };
  const submit = async () => {
    const job = newJob({
      tenant: random.pick(["acme", "acme-2", "b"]),
      generation: generation({ model: random.pick(["atlas-qa", "org/model"]) }),
      metadata: random.pick([{}, { run: "1" }, { run: "1", kind: "ü\n" }, { run: "2" }]),
    });
    const key = random.pick(["key_1", "key_2"]);
    // A key's batches count in a pool of their own, and as use of the key.
    const pools = [
      { id: key + random.pick(["", ":batch"]), limits: {} },
      { id: "key_0", limits: {} },
    ];
    const admission = { pools, tokens: [1], idempotency: null };
    await store.submitAll([job], admission);
    // Sent twice, as after a lost reply.
    if (random.chance(0.5)) await store.submitAll([job], admission);
    const counts = { attempt: 0, tokens: 0, promptTokens: 0, baseCalls: 0 };
    jobs.set(job.id, { job, key, state: "queued", ...counts });
  };
  const claim = async () => {
    const one = pick("queued", "running");
    if (one) ({ attempt: one.attempt } = await claimJob(redis, one.job.id));
    if (!one) return;
    one.state = "running";
    one.promptTokens = random.integer(1, 9);
    await store.recordPrefill(one.job.id, one.attempt, one.promptTokens);
    const ids = [1, 2, 3].slice(0, random.integer(1, 3));
    const baseCalls = random.integer(0, 3);
    const append = () =>
      store.appendTokens(one.job.id, one.attempt, one.tokens, { ids, text: "a" }, baseCalls);
    await append();
    // Sent twice, as after a lost reply.
    if (random.chance(0.5)) await append();
    one.tokens += ids.length;
    one.baseCalls += baseCalls;
  };
  const finish = async () => {
    const one = pick("running");
    if (!one) return;
    const state = random.pick(["succeeded", "failed", "cancelled", "expired"] as const);
    const isExpiring = random.chance(0.5);
    const by = isExpiring ? expiring : store;
    const usage = {
      ...loggedUsage(one),
      prompt_tokens_details: { cached_tokens: random.integer(0, one.promptTokens) },
      speculation: { drafted_tokens: 9, accepted_tokens: random.integer(0, one.tokens) },
      base_calls: one.baseCalls + random.integer(0, 2),
    };
    const outcome = { ...NEVER_RAN, usage };
    // Of an attempt before, of this one, and sent twice.
    expect(await by.finish(one.job.id, one.attempt - 1, state, "", outcome)).toBe(false);
    expect(await by.finish(one.job.id, one.attempt, state, "", outcome)).toBe(true);
    await by.finish(one.job.id, one.attempt, state, "", outcome);
    ended(one, state, usage);
    if (isExpiring) jobs.delete(one.job.id);
  };
  const cancel = async () => {
    const one = pick("queued", "running", "succeeded");
    if (one && (await store.cancel(one.job.id)) === "cancelled")
      ended(one, "cancelled", NEVER_RAN.usage);
  };
  const end = async () => {
    const one = pick("queued", "running");
    const record = one && (await store.record(one.job.id));
    if (!record) return;
    await store.endWithError(record, "expired", null);
    ended(one, "expired", loggedUsage(one));
  };
  const relabel = async () => {
    const one = random.pick([...jobs.values(), null]);
    if (!one) return;
    const metadata = random.pick([{}, { run: "1", kind: "new" }, { run: "3" }]);
    expect(await setMetadata(redis, one.job, metadata, 1e9)).toBe("set");
    jobs.set(one.job.id, { ...one, job: { ...one.job, metadata } });
  };
  const remove = async () => {
    const one = random.pick([...jobs.values(), null]);
    if (!one) return;
    await store.delete(one.job.id);
    if (!isTerminal(one.state)) ended(one, "cancelled", loggedUsage(one));
    jobs.delete(one.job.id);
  };
  const steps = [submit, submit, claim, claim, finish, finish, cancel, end, relabel, remove];
  for (let step = 0; step < STEPS; step++) await random.pick(steps)();
  while ((await new JobLists(redis).removeExpired(100)) > 0);
  expect(await storedIndex()).toEqual(await recount(jobs.values()));
  const kept = [...jobs.values()].filter(({ state }) => isTerminal(state));
  expect(await redis.zcard(JOB_EXPIRY_KEY)).toBe(kept.length);
  const usage = new UsageStore(redis);
  for (const [tenant, entries] of used) {
    const stored = await usage.ofTenant(tenant, [today, today + 1]);
    expect(byKeyAndModel(stored)).toEqual(byKeyAndModel(entries));
    const all = await usage.byTenant([today, today + 1]);
    const ofTenant = byKeyAndModel(all.filter(({ owner }) => owner === tenant));
    const models = byKeyAndModel(entries.map((entry) => ({ ...entry, owner: tenant })));
    expect(ofTenant).toEqual(models);
  }
  for (const id of jobs.keys()) await store.delete(id);
  expect(await redis.keys("{trimtab}:job*")).toEqual([]);
  expect(await redis.keys(REQUEST_BYTES_KEY)).toEqual([]);
});

test("a job of the release before is listed by state and model when it is claimed or ends", async () => {
  const [queued, running] = [newJob({ tenant: "acme" }), newJob({ tenant: "acme" })];
  for (const { id } of [queued, running]) {
    await store.submit(newJob({ id, tenant: "acme", metadata: { run: "1" } }));
    await redis.hdel(jobKey(id), "facets", "model");
  }
  for (const key of await redis.keys(`${JOB_INDEX_PREFIX}*`)) await redis.del(key);
  await claimJob(redis, running.id);
  await store.cancel(queued.id);
  const lists = new JobLists(redis);
  const page = { limit: 10, isDescending: true, after: null };
  const ids = async (filter: object) => (await lists.ids("acme", filter, page)).ids;
  expect(await ids({ state: "running", model: "atlas-qa" })).toEqual([running.id]);
  expect(await ids({ state: "cancelled" })).toEqual([queued.id]);
  expect((await lists.read([queued.id]))[0]).toMatchObject({ model: "atlas-qa" });
});

test("a job ends whole although a newer release counts more, and what that counted stays", async () => {
  const job = newJob({ tenant: "acme" });
  const today = Math.floor(Date.now() / DAY_MS);
  const [key, entry] = [`${USAGE_PREFIX}acme:`, `\n${job.generation.model}`];
  for (const day of [today, today + 1])
    await redis.hset(key + day, entry, "[1,2,3,4,5,6,7,8,9,10]");
  await store.submit(job);
  await store.cancel(job.id);
  expect(await redis.pttl(jobKey(job.id))).toBeGreaterThan(0);
  const sums = await Promise.all([0, 1].map((day) => redis.hget(key + (today + day), entry)));
  expect(sums).toContain("[1,2,4,4,5,6,7,8,9,10]");
});

test("jobs that are gone leave the index with the jobs that end after them", async () => {
  for (let i = 0; i < 4; i++) {
    const job = newJob({ tenant: "acme", metadata: { run: String(i) } });
    await store.submit(job);
    await (i < 3 ? expiring : store).cancel(job.id);
  }
  const last = newJob({ tenant: "acme" });
  await store.submit(last);
  await store.cancel(last.id);
  expect(await redis.zcard(JOB_EXPIRY_KEY)).toBe(2);
  expect(await redis.zcard(`${JOB_INDEX_PREFIX}acme:all`)).toBe(2);
});
