/** The queues of all tenants, for the operator: which tenants wait in which lane, how long, and when a new job would start. */
import { estimateStart } from "./eta.ts";
import { FairQueue } from "./fair-queue.ts";
import { FAIR_QUEUE_LUA, laneKeys, tenantOf } from "./fair-queue-lua.ts";
import { runningJobs } from "./lane-counts.ts";
import { LEASE_LUA } from "./lease-lua.ts";
import { laneOfGroup, modelsOfLane } from "./lanes.ts";
import type { Eta } from "../api/queue.ts";
import type { RedisClient } from "../redis/client.ts";
import { LANES_KEY, LEASE_GROUPS_KEY } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";
import { pausedModels } from "../workers/model-pauses.ts";
import { canServe, liveWorkers } from "../workers/registry.ts";

/** Lanes of a report, and flows that are read of each: those that are served next. */
const LANES_MAX = 200;
const FLOWS_MAX = 100;
/** Names of lanes, and of groups of leases, that are read: about a megabyte of each. */
const NAMES_MAX = 10_000;
/** Flows of a lane of which the start of a new job is estimated: each takes a call of a script. */
const ESTIMATES_MAX = 10;

/** KEYS: lanes, groups of leases. ARGV: names of each at most. Returns the names, a random sample if there are more. */
const readNames = defineScript(`
return {redis.call('SRANDMEMBER', KEYS[1], ARGV[1]), redis.call('SRANDMEMBER', KEYS[2], ARGV[1])}
`);

/**
 * KEYS: laneKeys(lane); the script finds the keys of its flows. ARGV: lane, flows at most. Returns Redis' time (ms), the count of flows, then of each: flow, waiting jobs, their tokens, when
 * the next of them was submitted.
 */
const readLane = defineScript(`
local name, flowsMax = unpack(ARGV)
${FAIR_QUEUE_LUA}${LEASE_LUA}
local lane = openLane(name)
local reply = {redisNowMs(), redis.call('ZCARD', lane.waiting)}
for _, flow in ipairs(redis.call('ZRANGE', lane.waiting, 0, flowsMax - 1)) do
  local queue = flowQueue(lane, flow)
  local next = redis.call('ZRANGE', queue, 0, 0)[1]
  reply[#reply + 1] = flow
  reply[#reply + 1] = redis.call('ZCARD', queue)
  reply[#reply + 1] = tonumber(redis.call('HGET', lane.tokens, flow) or '0')
  reply[#reply + 1] = next and tonumber(redis.call('HGET', jobKey(next), 'createdAtMs')) or 0
end
return reply
`);

/** The waiting jobs of one tenant in a lane. */
export interface WaitingTenant {
  readonly tenant: string;
  /** Whether these are jobs of its batches. */
  readonly isBatch: boolean;
  readonly jobs: number;
  readonly tokens: number;
  /** Seconds that the next of them has waited. */
  readonly ageSeconds: number;
  /** When a new job of the tenant would start; null if it is not known, and for all but the first 10 tenants of a lane. */
  readonly eta: Eta | null;
}

export interface LaneOverview {
  readonly models: readonly string[];
  readonly running: number;
  /** Jobs whose worker was lost before their first token. */
  readonly suspects: number;
  /** Whether the operator has paused one of its models. */
  readonly isPaused: boolean;
  /** Those that can serve the lane now: they are not drained, and none of its bases is away. */
  readonly workers: number;
  readonly slots: number;
  readonly tenants: readonly WaitingTenant[];
  /** Tenants that wait in the lane and are not among these. */
  readonly moreTenants: number;
}

export interface QueueOverview {
  readonly lanes: readonly LaneOverview[];
  /** Lanes that are not among these; with more than 10,000 of either kind of names, a lower bound. */
  readonly moreLanes: number;
}

/**
 * The lanes in which jobs wait or run, each with the 100 tenants that are served next. Of more than 200 lanes it is a random
 * sample, so that no lane is always left out.
 */
export async function queueOverview(redis: RedisClient): Promise<QueueOverview> {
  const reply = await readNames(redis, [LANES_KEY, LEASE_GROUPS_KEY], [NAMES_MAX]);
  const [waiting, groups] = reply as [string[], string[]];
  const groupsByLane = Map.groupBy(groups, laneOfGroup);
  const names = [...new Set([...waiting, ...groupsByLane.keys()])];
  const lanes = sampleOf(names, LANES_MAX).toSorted();
  const [workers, paused] = await Promise.all([liveWorkers(redis), pausedModels(redis)]);
  const overviews: LaneOverview[] = [];
  for (const lane of lanes) {
    const models = modelsOfLane(lane);
    const serving = workers.filter((worker) => canServe(worker, models));
    const isPaused = models.some((id) => paused.has(id));
    overviews.push({
      models,
      isPaused,
      ...(await runningJobs(redis, groupsByLane.get(lane) ?? [])),
      workers: serving.length,
      slots: serving.reduce((sum, { throughput }) => sum + throughput.slots, 0),
      ...(await waitingTenants(redis, lane, isPaused ? [] : serving)),
    });
  }
  return { lanes: overviews, moreLanes: names.length - lanes.length };
}

/** Each item is among them with the same probability. */
function sampleOf<T>(items: readonly T[], countMax: number): T[] {
  const left = [...items];
  for (let i = 0; i < Math.min(countMax, left.length); i++) {
    const j = i + Math.floor(Math.random() * (left.length - i));
    [left[i], left[j]] = [left[j]!, left[i]!];
  }
  return left.slice(0, countMax);
}

async function waitingTenants(
  redis: RedisClient,
  lane: string,
  serving: Awaited<ReturnType<typeof liveWorkers>>,
) {
  const reply = await readLane(redis, laneKeys(lane), [lane, FLOWS_MAX]);
  const [nowMs, flows, ...rest] = reply as [number, number, ...(string | number)[]];
  const queue = new FairQueue(redis);
  const throughputs = serving.map(({ throughput }) => throughput);
  const etaOf = async (flow: string) => {
    const eta = estimateStart(await queue.workAheadOfNewJob(lane, flow, 0), throughputs);
    return eta && { p50: eta.p50, p90: eta.p90 };
  };
  const read = Array.from({ length: rest.length / 4 }, async (_, i) => {
    const four = rest.slice(4 * i, 4 * i + 4);
    const [flow, jobs, tokens, atMs] = four as [string, number, number, number];
    return {
      ...tenantOf(flow),
      jobs,
      tokens,
      ageSeconds: atMs === 0 ? 0 : Math.max(0, nowMs - atMs) / 1000,
      eta: i < ESTIMATES_MAX ? await etaOf(flow) : null,
    };
  });
  const tenants: WaitingTenant[] = await Promise.all(read);
  return { tenants, moreTenants: Math.max(0, flows - tenants.length) };
}
