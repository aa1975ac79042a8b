/**
 * A claim: Lua functions that start an attempt at a job. The attempt number rises, which fences every earlier worker. The local
 * variable `due` and the functions of EVENT_LOG_LUA and LEASE_LUA are needed.
 */
import { eventChannel, logKey } from "../redis/keys.ts";
import { JOB_INDEX_LUA } from "./job-index-lua.ts";

export const CLAIM_LUA = `${JOB_INDEX_LUA}
-- How many attempts in a row were lost before they logged a token; 0 for a job that is no suspect.
local function lostAttempts(job)
  local fields = redis.call('HMGET', job, 'tokens', 'claimedTokens', 'lostAttempts')
  return (fields[1] or '0') == fields[2] and tonumber(fields[3]) + 1 or 0
end
-- Returns when the attempt before this one was claimed, when it last logged a token ('' for none), and 1 if its worker gave it up.
local function claim(job, id, claimId, fingerprint, nowMs, leaseMs)
  local fields = redis.call('HMGET', job, 'tokens', 'deadlineMs', 'claimedAtMs', 'lastTokenAtMs')
  local tokens = fields[1] or '0'
  local lost, isGivenUp = lostAttempts(job), wasGivenUp(job)
  removeLease(groupOf(job), id)
  if tokens == '0' then redis.call('HSET', job, 'fingerprint', fingerprint) end
  redis.call('HSET', job, 'state', 'running', 'claimedAtMs', nowMs, 'claimedTokens', tokens, 'lostAttempts', lost,
    'claim', claimId)
  redis.call('HSETNX', job, 'startedAtMs', nowMs)
  indexRunning(job, id)
  redis.call('HDEL', job, 'prefillAtMs', 'decodeAtMs')
  redis.call('ZADD', due, fields[2], id)
  setLease(groupOf(job), id, nowMs + leaseMs)
  local attempt = redis.call('HINCRBY', job, 'attempt', 1)
  logEvent(job, '${logKey("")}' .. id, '${eventChannel("")}' .. id, 'started', '{"attempt":' .. attempt .. '}')
  return fields[3] or '', fields[4] or '', isGivenUp and 1 or 0
end
`;
