/**
 * The keys of scripts, with a tag that is not the first one: every key has it, and a script touches no key that it has not declared, except
 * those whose names only the script can know.
 */
import { Redis } from "ioredis";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { fenceOf } from "../../../shared/jobs/fence.ts";
import { JobLeases } from "../../../shared/jobs/leases.ts";
import { JobLists } from "../../../shared/jobs/job-lists.ts";
import { setMetadata } from "../../../shared/jobs/metadata.ts";
import { runningJobs } from "../../../shared/jobs/running-jobs.ts";
import type { JobRecord } from "../../../shared/jobs/record.ts";
import { JobStore, NEVER_RAN } from "../../../shared/jobs/store.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { FairQueue } from "../../../shared/queue/fair-queue.ts";
import { laneCounts } from "../../../shared/queue/lane-counts.ts";
import { queueOverview } from "../../../shared/queue/queue-overview.ts";
import type { RedisClient } from "../../../shared/redis/client.ts";
import { commandsOf, TAGS } from "../../../shared/redis/tags.ts";
import { newJob } from "../../support/generation.ts";

const TAG = TAGS[1]!;
const NOTED = "undeclared";
const LANES = [["atlas-qa", "weights"]] as const;
const TAKE = { lanes: LANES, takesJobs: true, leaseMs: 60_000, attemptsMax: 5 };

/** Lua: `redis` whose commands note their key, or their channel, if it was not declared. */
const NOTING_LUA = `
local real, declared = redis, {}
for _, key in ipairs(KEYS) do declared[key] = true end
local function noting(run)
  return function(name, ...)
    local hasManyKeys = name == 'DEL' or name == 'EXISTS'
    for _, key in ipairs(hasManyKeys and {...} or {(...)}) do
      if not declared[key] then real.call('SADD', '${NOTED}', key) end
    end
    return run(name, ...)
  end
end
local redis = {call = noting(real.call), pcall = noting(real.pcall)}
`;

let server: RedisServer;
let raw: Redis;
let redis: RedisClient;
let store: JobStore;
let leases: JobLeases;

beforeAll(async () => {
  server = await startRedis();
  raw = new Redis(server.url);
  const noting: RedisClient = new Proxy(raw, {
    get(target, name) {
      if (name === "options") return { tag: TAG };
      if (name === "evalsha") return () => Promise.reject(new Error("NOSCRIPT"));
      if (name === "eval") {
        return (lua: string, ...args: [number, ...string[]]) => raw.eval(NOTING_LUA + lua, ...args);
      }
      const command = Reflect.get(target, name, target) as (...args: unknown[]) => unknown;
      return (...args: unknown[]) => command.apply(target, args);
    },
  });
  redis = commandsOf(noting);
  store = new JobStore(redis, 60_000);
  leases = new JobLeases(redis);
});
beforeEach(() => raw.flushall());
afterAll(async () => {
  raw.disconnect();
  await server.stop();
});

/** The families of the keys that the work touched without having declared them. */
async function undeclared(work: () => Promise<unknown>): Promise<string[]> {
  await work();
  const keys = await raw.smembers(NOTED);
  await raw.del(NOTED);
  for (const key of keys) expect(key.slice(0, TAG.length + 1)).toBe(`${TAG}:`);
  return [...new Set(keys.map((key) => key.split(":")[1]!))].toSorted();
}

test("a submission and commands for a known job or lane declare all keys", async () => {
  const { id: keyId } = await new KeyRegistry(redis).create("key", "tenant");
  const job = newJob({ tenant: "tenant", metadata: { team: "a" } });
  const pools = [{ id: keyId, limits: { requests_per_minute: 100, concurrent_jobs: 5 } }];
  const idempotency = {
    key: "{trimtab}:idempotency:x",
    requestHash: "h",
    forceNew: false,
    ttlMs: 1e4,
  };
  const admission = { pools, tokens: [8], idempotency };
  expect(await undeclared(() => store.submitAll([job], admission))).toEqual([]);
  expect((await store.submitAll([job], admission)).status).toBe("created");
  expect(await undeclared(() => setMetadata(redis, job, { team: "b" }, 1e9))).toEqual(["jobs-by"]);
  expect(await undeclared(() => store.repair([job.id]))).toEqual(["lane-flow"]);
});

test("names that only a script can know are those of the jobs, lanes and sets that it finds", async () => {
  const keys = new KeyRegistry(redis);
  const { id: keyId } = await keys.create("key", "tenant");
  const job = newJob({ tenant: "tenant" });
  await store.submit(job);
  const queue = new FairQueue(redis);
  expect(await undeclared(() => queue.workAhead({ ...job, lane: "atlas-qa" }))).toEqual([]);
  expect(await undeclared(() => laneCounts(redis))).toEqual(["job", "lane-flow"]);
  expect(await undeclared(() => queueOverview(redis))).toEqual(["job", "lane-flow"]);
  let record!: JobRecord;
  const takeOne = async () => ({ record } = (await leases.take(TAKE)).job!);
  const LEASE = ["leases", "suspects"];
  const LANE = ["lane-counters", "lane-flow", "lane-idle"];
  const USE = ["usage", "usage-tenants"];
  expect(await undeclared(takeOne)).toEqual([
    "events",
    "job",
    "jobs-by",
    ...LANE,
    "lane-tokens",
    "lane-waiting",
    "leases",
    "log",
    "suspects",
  ]);
  const fence = fenceOf(record);
  const tokens = { ids: [1], text: "a" };
  expect(await undeclared(() => leases.renew([record], 60_000))).toEqual(["leases"]);
  expect(await undeclared(() => runningJobs(redis))).toEqual(LEASE);
  expect(await undeclared(() => store.recordPrefill(record.id, fence, 3))).toEqual([]);
  expect(await undeclared(() => store.appendTokens(record.id, fence, 0, tokens))).toEqual(LEASE);
  expect(
    await undeclared(() => store.finish(record.id, fence, "succeeded", "a", NEVER_RAN)),
  ).toEqual([
    "activity",
    "jobs-by",
    ...LANE,
    "lane-waiting",
    "leases",
    "stored-bytes",
    "suspects",
    ...USE,
  ]);
  expect(await undeclared(() => store.delete(job.id))).toEqual([
    "jobs-by",
    "list-place",
    "stored-bytes",
  ]);
  expect(await undeclared(() => new JobLists(redis).removeExpired(1))).toEqual([]);
  expect(await undeclared(() => keys.rotate(keyId, 0))).toEqual(["key-hash"]);
  expect(await undeclared(() => keys.revoke(keyId))).toEqual(["key-hash", "tenant-keys"]);
  // Nothing was written without the tag.
  expect((await raw.keys("*")).filter((key) => !key.startsWith(`${TAG}:`))).toEqual([]);
});
