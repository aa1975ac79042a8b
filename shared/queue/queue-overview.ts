/** The queues of all tenants, for the operator: which tenants wait in which lane, how long, and when a new job would start. */
import { estimateStart } from "./eta.ts";
import { FairQueue } from "./fair-queue.ts";
import { FAIR_QUEUE_LUA, tenantOf } from "./fair-queue-lua.ts";
import { LEASE_LUA } from "./lease-lua.ts";
import { modelsOfLane } from "./lanes.ts";
import type { Eta } from "../api/queue.ts";
import type { RedisClient } from "../redis/client.ts";
import {
  LANES_KEY,
  LEASE_GROUPS_KEY,
  LEASES_PREFIX,
  NAME_SEPARATOR,
  SUSPECTS_PREFIX,
} from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";
import { liveWorkers } from "../workers/registry.ts";

/** Lanes of a report, and flows that are read of each: those that are served next. */
const LANES_MAX = 200;
const FLOWS_MAX = 100;
/** Flows of a lane of which the start of a new job is estimated: each takes a call of a script. */
const ESTIMATES_MAX = 10;

/** KEYS: lanes, groups of leases. ARGV: count at most of each. Returns names of lanes, and of groups with the count of their jobs. */
const readNames = defineScript(`
local function first(key)
  local names = redis.call('SRANDMEMBER', key, ARGV[1])
  table.sort(names)
  return names
end
local running = {}
for _, group in ipairs(first(KEYS[2])) do
  running[#running + 1] = group
  running[#running + 1] = redis.call('ZCARD', '${LEASES_PREFIX}' .. group)
  running[#running + 1] = redis.call('ZCARD', '${SUSPECTS_PREFIX}' .. group)
end
return {first(KEYS[1]), running}
`);

/**
 * KEYS: lanes. ARGV: lane, flows at most. Returns Redis' time (ms), the count of flows, then of each: flow, waiting jobs, their tokens, when
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
  readonly workers: number;
  readonly slots: number;
  readonly tenants: readonly WaitingTenant[];
  /** Tenants that wait in the lane and are not among these. */
  readonly moreTenants: number;
}

/** The lanes in which jobs wait or run: 200 at most, each with the 100 tenants that are served next. */
export async function queueOverview(redis: RedisClient): Promise<LaneOverview[]> {
  const reply = await readNames(redis, [LANES_KEY, LEASE_GROUPS_KEY], [LANES_MAX]);
  const [waiting, groups] = reply as [string[], (string | number)[]];
  const running = new Map<string, { running: number; suspects: number }>();
  for (let i = 0; i < groups.length; i += 3) {
    const [group, leases, suspects] = groups.slice(i, i + 3) as [string, number, number];
    const lane = group.slice(group.indexOf(NAME_SEPARATOR) + NAME_SEPARATOR.length);
    const before = running.get(lane) ?? { running: 0, suspects: 0 };
    running.set(lane, { running: before.running + leases, suspects: before.suspects + suspects });
  }
  const workers = await liveWorkers(redis);
  const lanes = [...new Set([...waiting, ...running.keys()])].slice(0, LANES_MAX).toSorted();
  const overviews: LaneOverview[] = [];
  for (const lane of lanes) {
    const models = modelsOfLane(lane);
    const serving = workers.filter((worker) =>
      models.every((id) => worker.models.some((model) => model.id === id)),
    );
    overviews.push({
      models,
      ...(running.get(lane) ?? { running: 0, suspects: 0 }),
      workers: serving.length,
      slots: serving.reduce((sum, { throughput }) => sum + throughput.slots, 0),
      ...(await waitingTenants(redis, lane, serving)),
    });
  }
  return overviews;
}

async function waitingTenants(
  redis: RedisClient,
  lane: string,
  serving: Awaited<ReturnType<typeof liveWorkers>>,
) {
  const reply = await readLane(redis, [LANES_KEY], [lane, FLOWS_MAX]);
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
