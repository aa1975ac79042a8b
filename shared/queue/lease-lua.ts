/**
 * Leases: which jobs run, and until when their workers are thought to be alive. A worker renews the leases of its jobs; a job
 * whose lease has expired is taken over. Times are Redis' own, so no worker's clock matters.
 *
 * A lease belongs to a lane, and to a fingerprint once the job has logged a token: other weights would continue with another
 * text. Before, the fingerprint is empty, and any worker of the lane may take the job over.
 *
 * A suspect is a job whose last attempt was lost before it logged a token: it may have crashed its worker. It waits in a set of
 * its own, so that it can be run where its crash harms no other job.
 *
 * This file changes the sets. The scripts of jobs/ that use it: take-script.ts gives a lease, lease-scripts.ts renews leases and gives
 * them up, and jobs/leases.ts calls both for a worker.
 */
import {
  JOB_PREFIX,
  LEASE_GROUPS_KEY,
  LEASES_PREFIX,
  NAME_SEPARATOR,
  SUSPECTS_PREFIX,
} from "../redis/keys.ts";

/** The value of a job's `claimedTokens` after an attempt that ended without the loss of its worker. */
const NOT_LOST = "-1";

/** The keys of a group: its leases, its suspects. */
export const leaseGroupKeys = (group: string) => [LEASES_PREFIX + group, SUSPECTS_PREFIX + group];

/**
 * Lua functions. `job` is the key of a job's hash; `group` is the end of the names of its sets of leases and suspects.
 */
export const LEASE_LUA = `
local function redisNowMs()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end
local function leaseGroup(lane, fingerprint) return fingerprint .. '${NAME_SEPARATOR}' .. lane end
-- The group of a running job, from its hash or from the values there.
local function groupOfFields(lane, fingerprint, tokens)
  return leaseGroup(lane or '', (tokens or '0') ~= '0' and fingerprint or '')
end
local function groupOf(job) return groupOfFields(unpack(redis.call('HMGET', job, 'lane', 'fingerprint', 'tokens'), 1, 3)) end
local function registerGroup(group)
  local isUsed = redis.call('EXISTS', '${LEASES_PREFIX}' .. group, '${SUSPECTS_PREFIX}' .. group) > 0
  redis.call(isUsed and 'SADD' or 'SREM', '${LEASE_GROUPS_KEY}', group)
end
local function setLease(group, id, expiresMs)
  redis.call('ZREM', '${SUSPECTS_PREFIX}' .. group, id)
  redis.call('ZADD', '${LEASES_PREFIX}' .. group, expiresMs, id)
  registerGroup(group)
end
-- A lease that exists needs one command, and a worker renews up to a thousand in a step. Without one the job is a suspect.
local function renewLease(group, id, expiresMs)
  if redis.call('ZADD', '${LEASES_PREFIX}' .. group, 'XX', 'CH', expiresMs, id) == 0 then setLease(group, id, expiresMs) end
end
local function removeLease(group, id)
  redis.call('ZREM', '${SUSPECTS_PREFIX}' .. group, id)
  redis.call('ZREM', '${LEASES_PREFIX}' .. group, id)
  registerGroup(group)
end
local function moveToSuspects(group, id, lostMs)
  redis.call('ZREM', '${LEASES_PREFIX}' .. group, id)
  redis.call('ZADD', '${SUSPECTS_PREFIX}' .. group, lostMs, id)
  registerGroup(group)
end
local function wasGivenUp(job) return redis.call('HGET', job, 'claimedTokens') == '${NOT_LOST}' end
-- An attempt that its worker gives up is not a lost one: the job is no suspect.
local function giveUpLease(job, id, expiresMs)
  redis.call('HSET', job, 'claimedTokens', '${NOT_LOST}')
  setLease(groupOf(job), id, expiresMs)
end
local function jobKey(id) return '${JOB_PREFIX}' .. id end
`;
