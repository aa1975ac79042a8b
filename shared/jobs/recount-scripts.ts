/**
 * The scripts that correct what a key and a tenant have in the queue. During an upgrade, processes of the release before end jobs
 * too, and they do not know all places where a job counts.
 */
import { FAIR_QUEUE_LUA } from "../queue/fair-queue-lua.ts";
import { LEASE_LUA } from "../queue/lease-lua.ts";
import {
  LANES_KEY,
  LEASE_GROUPS_KEY,
  LEASES_PREFIX,
  REQUEST_BYTES_KEY,
  SHARED_PREFIX,
  SUSPECTS_PREFIX,
} from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";
import { EVENT_LOG_LUA, WRITE_WHEN_FULL_LUA } from "./event-log.ts";
import { JOB_INDEX_LUA } from "./job-index-lua.ts";

/**
 * Removes jobs that have ended from a set of jobs that have not.
 * KEYS: the set. ARGV: cursor, jobs to look at. Returns the next cursor; '0' after the last job.
 */
export const removeEndedJobs = defineScript(`
local jobs = KEYS[1]
${EVENT_LOG_LUA}${LEASE_LUA}
local cursor, ids = unpack(redis.call('SSCAN', jobs, ARGV[1], 'COUNT', ARGV[2]))
for _, id in ipairs(ids) do
  local state = redis.call('HGET', jobKey(id), 'state')
  if not state or isEnded(state) then redis.call('SREM', jobs, id) end
end
return cursor
`);

/**
 * Corrects the jobs of a tenant that are listed as not ended: processes of the release before claim and end jobs without the index.
 * KEYS: due jobs, the tenant's open and running jobs. ARGV: tenant, cursor, jobs to look at. Returns the next cursor; '0' after the last job.
 */
export const correctOpenJobs = defineScript(`
local due = KEYS[1]
local tenant = ARGV[1]
${EVENT_LOG_LUA}${LEASE_LUA}${JOB_INDEX_LUA}
${WRITE_WHEN_FULL_LUA}
local cursor, entries = unpack(redis.call('ZSCAN', jobSet(tenant, 'open'), ARGV[2], 'COUNT', ARGV[3]))
local nowMs = redisNowMs()
for i = 1, #entries, 2 do
  local id = entries[i]
  local job = jobKey(id)
  local state, deletedAtMs = unpack(redis.call('HMGET', job, 'state', 'deletedAtMs'), 1, 2)
  if not state then
    redis.call('ZREM', jobSet(tenant, 'open'), id)
    redis.call('ZREM', jobSet(tenant, 'running'), id)
  elseif isEnded(state) then
    local _, facets, createdAtMs = indexed(job, id)
    deletedAtMs = deletedAtMs or nowMs + math.max(0, redis.call('PTTL', job))
    indexEnded(id, tenant, facets, createdAtMs, state, true, nowMs, deletedAtMs)
  elseif state == 'running' then
    indexRunning(job, id)
  end
end
return cursor
`);

/**
 * Counts the bytes of the requests of a flow again, from its jobs that wait or run. Jobs that have ended leave its queues, and the
 * tokens of its queues are those of the others.
 * KEYS: due jobs. ARGV: flow, jobs to look at, at most. Returns 1; 0 if there are more jobs, and nothing was changed.
 */
export const recountBytes = defineScript(`
local due = KEYS[1]
local flow, jobsMax = ARGV[1], tonumber(ARGV[2])
${EVENT_LOG_LUA}${FAIR_QUEUE_LUA}${LEASE_LUA}
${WRITE_WHEN_FULL_LUA}
if redis.call('SCARD', '${LANES_KEY}') + redis.call('SCARD', '${LEASE_GROUPS_KEY}') > jobsMax then return 0 end
local sets, count = {}, 0
local function addSet(key, lane)
  sets[#sets + 1] = {key = key, lane = lane}
  count = count + redis.call('ZCARD', key)
end
for _, lane in ipairs(redis.call('SMEMBERS', '${LANES_KEY}')) do addSet(flowQueue(openLane(lane), flow), lane) end
for _, group in ipairs(redis.call('SMEMBERS', '${LEASE_GROUPS_KEY}')) do
  addSet('${LEASES_PREFIX}' .. group)
  addSet('${SUSPECTS_PREFIX}' .. group)
end
if count > jobsMax then return 0 end
local sum, openJobs = 0, {}
for _, set in ipairs(sets) do
  local lane, tokens = set.lane and openLane(set.lane), 0
  for _, id in ipairs(redis.call('ZRANGE', set.key, 0, -1)) do
    local state, jobFlow, bytes, shared, cost =
      unpack(redis.call('HMGET', jobKey(id), 'state', 'flow', 'bytes', 'shared', 'cost'), 1, 5)
    if lane and state ~= 'queued' then
      removeFromFlow(lane, flow, id, cost or 0)
    else
      tokens = tokens + (cost or 0)
    end
    if jobFlow == flow and bytes and not isEnded(state) then
      sum = sum + bytes
      if shared then openJobs[shared] = (openJobs[shared] or 0) + 1 end
    end
  end
  if tokens > 0 and lane then redis.call('HSET', lane.tokens, flow, tokens) end
end
for shared, open in pairs(openJobs) do
  local key = '${SHARED_PREFIX}' .. shared
  sum = sum + (redis.call('HGET', key, 'bytes') or 0)
  redis.call('HSET', key, 'open', open)
end
if sum == 0 then
  redis.call('HDEL', '${REQUEST_BYTES_KEY}', flow)
else
  redis.call('HSET', '${REQUEST_BYTES_KEY}', flow, sum)
end
return 1
`);
