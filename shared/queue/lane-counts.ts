/** Counts of the jobs in each lane, for scaling. It reads counts, not jobs: a lane costs O(log n) for each tenant in it. */
import { FAIR_QUEUE_LUA } from "./fair-queue-lua.ts";
import { LEASE_LUA } from "./lease-lua.ts";
import { laneOfGroup } from "./lanes.ts";
import type { RedisClient } from "../redis/client.ts";
import { LANES_KEY, LEASE_GROUPS_KEY, LEASES_PREFIX, SUSPECTS_PREFIX } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";

export interface LaneCounts {
  /** Jobs that no worker has, suspects included. */
  readonly waiting: number;
  readonly running: number;
  /** Age in seconds of the oldest waiting job that is not part of a batch; 0 if none waits. */
  readonly ageSeconds: number;
}

/** KEYS: lanes. ARGV: lane, then its groups of leases. Returns its waiting jobs, running jobs, and ms that the oldest one has waited. */
const countLane = defineScript(`
local lane = ARGV[1]
${FAIR_QUEUE_LUA}${LEASE_LUA}
lane = openLane(lane)
local nowMs = redisNowMs()
local waiting, running, oldestMs = 0, 0, nowMs
for _, flow in ipairs(redis.call('ZRANGE', lane.waiting, 0, -1)) do
  local queue = flowQueue(lane, flow)
  waiting = waiting + redis.call('ZCARD', queue)
  local first = not isBatchFlow(flow) and redis.call('ZRANGE', queue, 0, 0)[1]
  if first then
    oldestMs = math.min(oldestMs, tonumber(redis.call('HGET', jobKey(first), 'createdAtMs')) or nowMs)
  end
end
for i = 2, #ARGV do
  running = running + redis.call('ZCARD', '${LEASES_PREFIX}' .. ARGV[i])
  waiting = waiting + redis.call('ZCARD', '${SUSPECTS_PREFIX}' .. ARGV[i])
end
return {waiting, running, nowMs - oldestMs}
`);

/** The counts of all lanes in which jobs wait or run. */
export async function laneCounts(redis: RedisClient): Promise<ReadonlyMap<string, LaneCounts>> {
  const [lanes, groups] = await Promise.all([
    redis.smembers(LANES_KEY),
    redis.smembers(LEASE_GROUPS_KEY),
  ]);
  const groupsByLane = Map.groupBy(groups, laneOfGroup);
  const counts = new Map<string, LaneCounts>();
  for (const lane of new Set([...lanes, ...groupsByLane.keys()])) {
    const reply = await countLane(redis, [LANES_KEY], [lane, ...(groupsByLane.get(lane) ?? [])]);
    const [waiting, running, ageMs] = reply as [number, number, number];
    counts.set(lane, { waiting, running, ageSeconds: ageMs / 1000 });
  }
  return counts;
}
