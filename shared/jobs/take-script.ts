/**
 * The script with which a worker takes a job: an expired lease, a suspect, or the next job of a fair queue. It claims the job
 * in the same step, so one round trip lies between a free slot and a running job.
 */
import { CLAIM_LUA } from "./claim-lua.ts";
import { EVENT_LOG_LUA, WRITE_WHEN_FULL_LUA } from "./event-log.ts";
import { FAIR_QUEUE_LUA } from "../queue/fair-queue-lua.ts";
import { LEASE_LUA } from "../queue/lease-lua.ts";
import { LANE_SEPARATOR, VERSION_SUFFIX } from "../queue/lanes.ts";
import {
  DRAINING_WORKERS_KEY,
  LEASES_PREFIX,
  PAUSED_MODELS_KEY,
  SHARED_PREFIX,
  SUSPECTS_PREFIX,
} from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";

/** Expired leases of a lane that one call looks at, at most. */
const EXPIRED_MAX = 16;
/** Waiting jobs that one call moves to another lane or drops, at most: it then takes less than 10 ms. */
const MOVED_MAX = 100;

/** A claim can be repeated for this long. Longer outages of Redis cost one lost attempt. */
const LAST_CLAIM_MS = 600_000;

/** The script's argument, as JSON. */
export interface TakeOrder {
  /** Random id of the worker. */
  readonly worker: string;
  /** Id of the claim: the worker's id and a count. A second call with the same id gets the job of the first one. */
  readonly claim: string;
  /** Lane and fingerprint of each lane to take from, in this order. */
  readonly lanes: readonly (readonly [lane: string, fingerprint: string])[];
  /** Whether a job may be claimed that is no suspect. */
  readonly takesJobs: boolean;
  /** A suspect may be claimed this many milliseconds after it was lost; absent for never. */
  readonly suspectAfterMs?: number;
  /** The highest version of jobs that the worker understands. */
  readonly version: number;
  /** Milliseconds after which the lease of a claimed job expires. */
  readonly leaseMs: number;
  /** Attempts in a row that may be lost before they log a token. */
  readonly attemptsMax: number;
}

/**
 * KEYS: due jobs, the last claim of the worker. ARGV: TakeOrder (JSON). The keys of lanes, flows and jobs are not declared: a worker may
 * serve many lanes, and only the script knows in which flow and which job it ends.
 * Returns {status, milliseconds until the next lease expires or suspect may be claimed (-1: unknown)}.
 * Status: 'none'; or 'claimed', 'exhausted' (too many attempts were lost) or 'late' (its deadline or `start_by` has passed), and
 * then the reply goes on: when the attempt before was claimed, when it last logged a token ('' for none), 1 if its worker gave it
 * up, fields of the job.
 * A drained worker gets none, and none is taken from a lane with a paused model.
 * A job that is exhausted or late is not claimed: the caller ends it. If the caller is lost, the job is found again.
 * A client that lost its connection before the reply sends the same order again. It gets the job that it has claimed, as long
 * as no other worker has claimed that job.
 */
export const take = defineScript(`
local due, lastClaim = unpack(KEYS)
local order = cjson.decode(ARGV[1])
${EVENT_LOG_LUA}${FAIR_QUEUE_LUA}${LEASE_LUA}${CLAIM_LUA}
${WRITE_WHEN_FULL_LUA}
local nowMs = redisNowMs()
local movedCount, wakeMs = 0, nil
local function wakeAt(ms) wakeMs = math.min(wakeMs or math.huge, tonumber(ms)) end
local function reply(status, ...)
  local waitMs = wakeMs and math.max(0, wakeMs - nowMs) or -1
  return {status, waitMs, ...}
end
-- The fields of a job, with those that it shares with others of its request.
local function jobFields(job)
  local fields = redis.call('HGETALL', job)
  local shared = redis.call('HGET', job, 'shared')
  if not shared then return fields end
  local values = redis.call('HMGET', '${SHARED_PREFIX}' .. shared, 'generation', 'requestOptions')
  for i, name in ipairs({'sharedGeneration', 'sharedRequestOptions'}) do
    fields[#fields + 1] = name
    fields[#fields + 1] = values[i] or '{}'
  end
  return fields
end
-- Whether a newer release must run the job.
local function isNewer(job) return tonumber(redis.call('HGET', job, 'version') or '0') > order.version end
-- Jobs of a newer release leave the lane for one of that release, so that they do not hold up those behind them.
local function moveToNewerLane(job)
  local lane, version = unpack(redis.call('HMGET', job, 'lane', 'version'), 1, 2)
  local newLane = lane .. '${VERSION_SUFFIX}' .. version
  redis.call('HSET', job, 'lane', newLane)
  return newLane
end
local function moveRunning(group, job, id, expiresMs, isSuspect)
  removeLease(group, id)
  moveToNewerLane(job)
  local move = isSuspect and moveToSuspects or setLease
  move(groupOf(job), id, expiresMs)
  -- The next call finds those behind it.
  wakeAt(nowMs)
end
local function moveWaiting(oldLane, job, id)
  local flow, cost, priority = unpack(redis.call('HMGET', job, 'flow', 'cost', 'priority'), 1, 3)
  setStartTag(oldLane, flow, startTag(oldLane, flow) - cost)
  local newLane = moveToNewerLane(job)
  addToFlow(openLane(newLane), flow, id, tonumber(cost), tonumber(priority or '0'), nowMs)
end
local function claimed(id, fingerprint)
  local job = jobKey(id)
  local claimedAtMs, lastTokenAtMs, isGivenUp = claim(job, id, order.claim, fingerprint, nowMs, order.leaseMs)
  redis.call('SET', lastClaim, cjson.encode({order.claim, id, claimedAtMs, lastTokenAtMs, isGivenUp}), 'PX', ${LAST_CLAIM_MS})
  return reply('claimed', claimedAtMs, lastTokenAtMs, isGivenUp, jobFields(job))
end
-- The reply of an earlier call with the same order, or nil.
local function claimedBefore()
  local claimId, id, claimedAtMs, lastTokenAtMs, isGivenUp = unpack(cjson.decode(redis.call('GET', lastClaim) or '[]'))
  if claimId ~= order.claim then return nil end
  local job = jobKey(id)
  local state, current = unpack(redis.call('HMGET', job, 'state', 'claim'), 1, 2)
  if state ~= 'running' or current ~= claimId then return nil end
  setLease(groupOf(job), id, nowMs + order.leaseMs)
  return reply('claimed', claimedAtMs, lastTokenAtMs, isGivenUp, jobFields(job))
end
-- The reply for a running job that must end, or nil. Its lease is extended while the caller ends it.
local function ending(group, id)
  local job = jobKey(id)
  local status
  if lostAttempts(job) >= order.attemptsMax then status = 'exhausted' end
  if tonumber(redis.call('HGET', job, 'deadlineMs')) <= nowMs then status = 'late' end
  if not status then return nil end
  setLease(group, id, nowMs + order.leaseMs)
  return reply(status, '', '', 0, jobFields(job))
end

local before = claimedBefore()
if before then return before end
if redis.call('SISMEMBER', '${DRAINING_WORKERS_KEY}', order.worker) == 1 then return reply('none') end
if redis.call('EXISTS', '${PAUSED_MODELS_KEY}') == 1 then
  local function isPaused(lane)
    for model in string.gmatch(lane, '[^${LANE_SEPARATOR}]+') do
      if redis.call('HEXISTS', '${PAUSED_MODELS_KEY}', model) == 1 then return true end
    end
  end
  local lanes = {}
  for _, served in ipairs(order.lanes) do
    if not isPaused(served[1]) then lanes[#lanes + 1] = served end
  end
  order.lanes = lanes
end

for _, served in ipairs(order.lanes) do
  local lane, fingerprint = unpack(served)
  for _, group in ipairs({leaseGroup(lane, ''), leaseGroup(lane, fingerprint)}) do
    local leases = '${LEASES_PREFIX}' .. group
    local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', nowMs, 'WITHSCORES', 'LIMIT', 0, ${EXPIRED_MAX})
    for i = 1, #expired, 2 do
      local id = expired[i]
      if redis.call('HGET', jobKey(id), 'state') ~= 'running' then
        removeLease(group, id)
      elseif isNewer(jobKey(id)) then
        moveRunning(group, jobKey(id), id, expired[i + 1], false)
      else
        local ended = ending(group, id)
        if ended then return ended end
        if lostAttempts(jobKey(id)) > 0 then
          moveToSuspects(group, id, expired[i + 1])
        elseif order.takesJobs then
          return claimed(id, fingerprint)
        end
      end
    end
    local nextLease = redis.call('ZRANGEBYSCORE', leases, '(' .. nowMs, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if nextLease[2] then wakeAt(nextLease[2]) end
  end
end

for _, served in ipairs(order.lanes) do
  local lane, fingerprint = unpack(served)
  for _, group in ipairs({leaseGroup(lane, ''), leaseGroup(lane, fingerprint)}) do
    local suspects = '${SUSPECTS_PREFIX}' .. group
    local first = redis.call('ZRANGE', suspects, 0, 0, 'WITHSCORES')
    local id, lostMs = first[1], tonumber(first[2] or 0)
    if id and redis.call('HGET', jobKey(id), 'state') ~= 'running' then
      removeLease(group, id)
    elseif id and isNewer(jobKey(id)) then
      moveRunning(group, jobKey(id), id, lostMs, true)
    elseif id and order.suspectAfterMs then
      if lostMs + order.suspectAfterMs <= nowMs then
        return ending(group, id) or claimed(id, fingerprint)
      end
      wakeAt(lostMs + order.suspectAfterMs)
    end
  end
end

if not order.takesJobs then return reply('none') end
for _, served in ipairs(order.lanes) do
  local name, fingerprint = unpack(served)
  local lane = openLane(name)
  local function costOf(id) return tonumber(redis.call('HGET', jobKey(id), 'cost') or '0') end
  while true do
    if movedCount == ${MOVED_MAX} then
      wakeAt(nowMs)
      break
    end
    local id = popNextJob(lane, costOf)
    if not id then break end
    local job = jobKey(id)
    local state, startByMs, deadlineMs = unpack(redis.call('HMGET', job, 'state', 'startByMs', 'deadlineMs'), 1, 3)
    if state == 'queued' and isNewer(job) then
      moveWaiting(lane, job, id)
    elseif state == 'queued' then
      if nowMs > math.min(tonumber(startByMs or deadlineMs), tonumber(deadlineMs)) then
        return reply('late', '', '', 0, jobFields(job))
      end
      return claimed(id, fingerprint)
    end
    -- It is of a newer release, or its record is gone.
    movedCount = movedCount + 1
  end
end
return reply('none')
`);
