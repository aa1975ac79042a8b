/** The scripts of the control loops that repair what lost processes left: the sweeper, and the repair of the queue. */
import { FAIR_QUEUE_LUA } from "../queue/fair-queue-lua.ts";
import { LEASE_LUA } from "../queue/lease-lua.ts";
import { WRITE_WHEN_FULL_LUA } from "./event-log.ts";
import { NOW_LUA } from "../redis/clock.ts";
import { LEASES_PREFIX, SUSPECTS_PREFIX } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";

/** Milliseconds until an overdue job is looked at again whose worker still renews its lease. */
const RECHECK_MS = 1_000;

/**
 * Jobs that are due: to be expired, or to be published. A running job whose lease has not expired is left to its worker.
 * KEYS: due jobs. ARGV: count at most. Returns ids.
 */
export const dueJobs = defineScript(`
local due, countMax = KEYS[1], ARGV[1]
${LEASE_LUA}
${WRITE_WHEN_FULL_LUA}
local nowMs, found = redisNowMs(), {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, 0, nowMs, 'LIMIT', 0, countMax)) do
  local job = jobKey(id)
  local expiresMs = redis.call('HGET', job, 'state') == 'running' and
    redis.call('ZSCORE', '${LEASES_PREFIX}' .. groupOf(job), id)
  if expiresMs and tonumber(expiresMs) > nowMs then
    redis.call('ZADD', due, nowMs + ${RECHECK_MS}, id)
  else
    found[#found + 1] = id
  end
end
return found
`);

/**
 * Looks at a due job again after a pause, so that it does not hold up those behind it. A job that is not due any more was
 * changed meanwhile, and stays as it is. It works also when Redis is full.
 * KEYS: due jobs. ARGV: id, pause in milliseconds.
 */
export const postponeDue = defineScript(`
local due = KEYS[1]
local id, pauseMs = unpack(ARGV)
${LEASE_LUA}
${WRITE_WHEN_FULL_LUA}
local nowMs, dueMs = redisNowMs(), redis.call('ZSCORE', due, id)
if dueMs and tonumber(dueMs) <= nowMs then redis.call('ZADD', due, nowMs + pauseMs, id) end
`);

/**
 * Running jobs that no worker keeps: their lease has expired, or they are suspects.
 * KEYS: leases and suspects of a group. ARGV: count at most of each kind. Returns ids.
 */
export const expiredLeases = defineScript(`
local leases, suspects = unpack(KEYS)
${NOW_LUA}
local ids = redis.call('ZRANGEBYSCORE', leases, '-inf', nowMs, 'LIMIT', 0, ARGV[1])
for _, id in ipairs(redis.call('ZRANGE', suspects, 0, ARGV[1] - 1)) do ids[#ids + 1] = id end
return ids
`);

/** Lease of a running job that had none. A worker of an earlier release may still run the job, and ends it before that. */
const REPAIRED_LEASE_MS = 30_000;

/** The lane of a job that an earlier release created without one, and all else that the repair needs to put it there. */
export interface LaneAssignment {
  readonly id: string;
  readonly lane: string;
  readonly flow: string;
  readonly cost: number;
  /** The text so far. */
  readonly text: string;
}

/**
 * Puts queued jobs into their lane that are in none, and gives a lease to running ones that have none.
 * KEYS: hash and text so far of each job. ARGV: LaneAssignment or {id} of each job (JSON). Returns the ids of jobs without a lane: each
 * needs a LaneAssignment.
 */
export const repairJobs = defineScript(`
${FAIR_QUEUE_LUA}${LEASE_LUA}
local withoutLane = {}
for i, order in ipairs(cjson.decode(ARGV[1])) do
  local id, job, textSoFar = order.id, unpack(KEYS, 2 * i - 1, 2 * i)
  local state, name, flow, cost, priority, createdAtMs =
    unpack(redis.call('HMGET', job, 'state', 'lane', 'flow', 'cost', 'priority', 'createdAtMs'), 1, 6)
  local isUnended = state == 'queued' or state == 'running'
  if isUnended and not name and order.lane then
    name, flow, cost = order.lane, order.flow, order.cost
    redis.call('HSET', job, 'lane', name, 'flow', flow, 'cost', cost)
    redis.call('SET', textSoFar, order.text)
  end
  if isUnended and not name then
    withoutLane[#withoutLane + 1] = id
  elseif state == 'queued' and not redis.call('ZSCORE', flowQueue(openLane(name), flow), id) then
    addToFlow(openLane(name), flow, id, cost, tonumber(priority or '0'), createdAtMs)
  elseif state == 'running' then
    local group = groupOf(job)
    local isKnown = redis.call('ZSCORE', '${LEASES_PREFIX}' .. group, id) or
      redis.call('ZSCORE', '${SUSPECTS_PREFIX}' .. group, id)
    if not isKnown then setLease(group, id, redisNowMs() + ${REPAIRED_LEASE_MS}) end
  end
end
return withoutLane
`);
