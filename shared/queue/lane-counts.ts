/**
 * Counts of the jobs in each lane, for scaling. A lane costs O(log n) for each tenant that waits in it. So one process at a time
 * counts, in scripts that each read a bounded number of tenants, and the other processes use its result.
 */
import { FAIR_QUEUE_LUA, laneKeys } from "./fair-queue-lua.ts";
import { LEASE_LUA, leaseGroupKeys } from "./lease-lua.ts";
import { laneOfGroup, modelsOfLane } from "./lanes.ts";
import type { RedisClient } from "../redis/client.ts";
import {
  LANE_COUNTS_KEY,
  LANE_COUNTS_LEASE_KEY,
  LANES_KEY,
  LEASE_GROUPS_KEY,
  WORKERS_KEY,
} from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";
import { pausedModels } from "../workers/model-pauses.ts";

/** Flows that one script reads, about: Redis serves nobody else meanwhile. */
const FLOWS_READ = 500;
/** A process that has not stored its counts by then has ended or is slow: another one counts. */
const LEASE_MS = 10_000;
/** Nobody begins a count sooner than this after another, nor within 10 times the time that it took, at most LEASE_MS. */
const PAUSE_MS = 1_000;
const PAUSE_FACTOR = 10;
/** Counts that are older are not used. */
const COUNTS_TTL_MS = 60_000;

export interface LaneCounts {
  /** Jobs that no worker has, suspects included; 0 in a lane with a paused model, whose jobs do not start. */
  readonly waiting: number;
  readonly running: number;
  /**
   * Age in seconds of the oldest waiting job, where of each tenant only the next one is looked at, and none of a batch. 0 if none
   * waits, and in a lane with a paused model.
   */
  readonly ageSeconds: number;
}

/** Lets a script write also when Redis is full, as a heartbeat does: a first command that needs no memory allows the others. */
const WRITE_LUA = `redis.call('ZREM', '${WORKERS_KEY}', '')`;

/** KEYS: lease, counts. ARGV: ms. Returns whether the lease was free, and the counts. */
const takeLease = defineScript(`
${WRITE_LUA}
local isTaken = redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1])
return {isTaken and 1 or 0, redis.call('GET', KEYS[2])}
`);

/** KEYS: lease, counts. ARGV: ms for which the lease goes on, counts, ms after which they expire. */
const storeCounts = defineScript(`
${WRITE_LUA}
redis.call('SET', KEYS[1], '1', 'PX', ARGV[1])
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
`);

/**
 * KEYS: laneKeys(lane); the script finds the keys of its flows. ARGV: lane, cursor, flows to read. Returns the next cursor ('0' after the last flow), ms that the oldest job has
 * waited, then of each flow: its name, its waiting jobs.
 */
const readFlows = defineScript(`
${FAIR_QUEUE_LUA}${LEASE_LUA}
local lane = openLane(ARGV[1])
local nowMs = redisNowMs()
local oldestMs = nowMs
local cursor, flows = unpack(redis.call('ZSCAN', lane.waiting, ARGV[2], 'COUNT', ARGV[3]))
local reply = {cursor, 0}
for i = 1, #flows, 2 do
  local queue = flowQueue(lane, flows[i])
  local first = not isBatchFlow(flows[i]) and redis.call('ZRANGE', queue, 0, 0)[1]
  if first then
    oldestMs = math.min(oldestMs, tonumber(redis.call('HGET', jobKey(first), 'createdAtMs')) or nowMs)
  end
  reply[#reply + 1] = flows[i]
  reply[#reply + 1] = redis.call('ZCARD', queue)
end
reply[2] = nowMs - oldestMs
return reply
`);

/** KEYS: leases and suspects of each group. Returns of each: running jobs, suspects. */
const countGroups = defineScript(`
local counts = {}
for i, key in ipairs(KEYS) do counts[i] = redis.call('ZCARD', key) end
return counts
`);

/** The jobs of groups of leases. Suspects are jobs whose worker was lost before their first token. */
export async function runningJobs(redis: RedisClient, groups: readonly string[]) {
  if (groups.length === 0) return { running: 0, suspects: 0 };
  const counts = (await countGroups(redis, groups.flatMap(leaseGroupKeys))) as number[];
  const sumOf = (which: 0 | 1) =>
    counts.filter((_, i) => i % 2 === which).reduce((sum, count) => sum + count, 0);
  return { running: sumOf(0), suspects: sumOf(1) };
}

/** The counts of all lanes in which jobs wait or run, a few seconds old; null while another process makes the first ones. */
export async function laneCounts(
  redis: RedisClient,
): Promise<ReadonlyMap<string, LaneCounts> | null> {
  const keys = [LANE_COUNTS_LEASE_KEY, LANE_COUNTS_KEY];
  const reply = await takeLease(redis, keys, [LEASE_MS]);
  const [isTaken, stored] = reply as [0 | 1, string | null];
  if (isTaken === 0) {
    return stored === null ? null : new Map(JSON.parse(stored) as [string, LaneCounts][]);
  }
  const startMs = performance.now();
  const counts = await countLanes(redis);
  const takenMs = Math.ceil(PAUSE_FACTOR * (performance.now() - startMs));
  const pauseMs = Math.min(LEASE_MS, Math.max(PAUSE_MS, takenMs));
  await storeCounts(redis, keys, [pauseMs, JSON.stringify([...counts]), COUNTS_TTL_MS]);
  return counts;
}

async function countLanes(redis: RedisClient): Promise<Map<string, LaneCounts>> {
  const paused = await pausedModels(redis);
  const isPaused = (lane: string) => modelsOfLane(lane).some((id) => paused.has(id));
  const counts = new Map<string, LaneCounts>();
  for (const lane of await redis.smembers(LANES_KEY)) {
    if (!isPaused(lane)) counts.set(lane, { running: 0, ...(await waitingJobs(redis, lane)) });
  }
  // After the waiting ones: a job that starts meanwhile counts twice, not never.
  const groups = await redis.smembers(LEASE_GROUPS_KEY);
  for (const [lane, ofLane] of Map.groupBy(groups, laneOfGroup)) {
    const { running, suspects } = await runningJobs(redis, ofLane);
    const { waiting, ageSeconds } = counts.get(lane) ?? { waiting: 0, ageSeconds: 0 };
    counts.set(lane, {
      waiting: waiting + (isPaused(lane) ? 0 : suspects),
      running,
      ageSeconds,
    });
  }
  return counts;
}

async function waitingJobs(redis: RedisClient, lane: string) {
  // A scan may return a flow more than once.
  const jobsOf = new Map<string, number>();
  let cursor = "0";
  let ageMs = 0;
  do {
    const reply = await readFlows(redis, laneKeys(lane), [lane, cursor, FLOWS_READ]);
    const [next, oldestMs, ...flows] = reply as [string, number, ...(string | number)[]];
    for (let i = 0; i < flows.length; i += 2) jobsOf.set(String(flows[i]), Number(flows[i + 1]));
    cursor = next;
    ageMs = Math.max(ageMs, oldestMs);
  } while (cursor !== "0");
  const waiting = [...jobsOf.values()].reduce((sum, jobs) => sum + jobs, 0);
  return { waiting, ageSeconds: ageMs / 1000 };
}
