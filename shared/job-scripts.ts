/**
 * The Lua scripts through which a job changes. Redis runs each as one step, so a job's state, its event log
 * and the bell never disagree, and a worker that lost its job (a lower attempt number) is refused: the fence.
 *
 * All take KEYS[1] = job hash, KEYS[2] = log stream, KEYS[3] = bell channel; an API key's counters have their names from
 * its id, and share the hash tag.
 */
import { DEADLINES_KEY, KEY_JOBS_PREFIX, KEY_RATES_PREFIX } from "./redis-keys.ts";

/** Logs one event under the next sequence number and repeats it on the bell as "seq\ntype\ndata". */
const EMIT = `
local function emit(type, data)
  local seq = redis.call('HINCRBY', KEYS[1], 'seq', 1)
  redis.call('XADD', KEYS[2], seq .. '-0', 'type', type, 'data', data)
  redis.call('PUBLISH', KEYS[3], seq .. '\\n' .. type .. '\\n' .. data)
  return seq
end
local function ended(state)
  return state == 'succeeded' or state == 'failed' or state == 'cancelled' or state == 'expired'
end
`;

/**
 * Ends the job: state, text and outcome, the terminal event, the time to live of record and log (which a job may have asked
 * to be shorter: keepMs), off the list of deadlines, and what its API key gets back: a place among its jobs, and of the
 * tokens that were reserved those that were not used.
 */
const END = `
local function release(outcome)
  local job = redis.call('HMGET', KEYS[1], 'keyId', 'id', 'reservedTokens')
  redis.call('ZREM', '${DEADLINES_KEY}', job[2])
  if not job[1] then return end
  redis.call('SREM', '${KEY_JOBS_PREFIX}' .. job[1], job[2])
  local rates = '${KEY_RATES_PREFIX}' .. job[1]
  -- A revoked key has no rates any more.
  if job[3] and redis.call('HEXISTS', rates, 'tokens') == 1 then
    local used = cjson.decode(outcome).usage.total_tokens
    redis.call('HINCRBYFLOAT', rates, 'tokens', job[3] - used)
  end
end
local function finish(state, nowMs, retentionMs, text, outcome)
  retentionMs = math.min(retentionMs, tonumber(redis.call('HGET', KEYS[1], 'keepMs') or retentionMs))
  redis.call('HSET', KEYS[1], 'state', state, 'endedAtMs', nowMs, 'text', text, 'outcome', outcome,
    'deletedAtMs', string.format('%.0f', tonumber(nowMs) + tonumber(retentionMs)))
  emit(state, outcome)
  release(outcome)
  redis.call('PEXPIRE', KEYS[1], retentionMs)
  redis.call('PEXPIRE', KEYS[2], retentionMs)
end
`;

/**
 * Creates the job and logs \`queued\`, if its API key's limits let it: then it takes one request, the tokens that it
 * reserves, and a place among the key's jobs. A rate is a bucket that refills continuously within a minute.
 * ARGV: key id ('' for none), requests a minute, tokens a minute, unended jobs ('' where there is no limit), tokens
 * reserved, job id, its deadline in ms, then field, value, ... of the job hash.
 * Returns {status, wait in ms, requests left, tokens left, unended jobs}: 1 created, or the job existed; beyond a limit of
 * -1 requests, -2 tokens, -3 jobs, and nothing was written.
 */
export const SUBMIT = `${EMIT}
if redis.call('EXISTS', KEYS[1]) == 1 then return {1, 0, 0, 0, 0} end
local keyId, reserved = ARGV[1], tonumber(ARGV[5])
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local rates = '${KEY_RATES_PREFIX}' .. keyId
local function left(name, limit)
  local bucket = redis.call('HMGET', rates, name, name .. 'AtMs')
  if not bucket[1] then return limit end
  return math.min(limit, bucket[1] + limit * math.max(0, nowMs - bucket[2]) / 60000)
end
local status, waitMs, remaining = 1, 0, {}
for i, name in ipairs({'requests', 'tokens'}) do
  local limit, cost = tonumber(ARGV[1 + i]), name == 'tokens' and reserved or 1
  if limit then
    remaining[i] = left(name, limit)
    local wait = math.ceil((cost - remaining[i]) * 60000 / limit)
    if wait > waitMs then status, waitMs = -i, wait end
  end
end
local jobs = '${KEY_JOBS_PREFIX}' .. keyId
local jobCount = redis.call('SCARD', jobs)
if ARGV[4] ~= '' and jobCount >= tonumber(ARGV[4]) then status, waitMs = -3, 0 end
if status == 1 then
  for i, name in ipairs({'requests', 'tokens'}) do
    if remaining[i] then
      remaining[i] = remaining[i] - (name == 'tokens' and reserved or 1)
      redis.call('HSET', rates, name, remaining[i], name .. 'AtMs', nowMs)
    end
  end
  if remaining[2] then redis.call('HSET', KEYS[1], 'reservedTokens', reserved) end
  if keyId ~= '' then
    redis.call('SADD', jobs, ARGV[6])
    redis.call('HSET', KEYS[1], 'keyId', keyId)
    jobCount = jobCount + 1
  end
  redis.call('HSET', KEYS[1], unpack(ARGV, 8))
  redis.call('ZADD', '${DEADLINES_KEY}', ARGV[7], ARGV[6])
  emit('queued', '{}')
end
return {status, waitMs, math.max(0, remaining[1] or 0), math.max(0, remaining[2] or 0), jobCount}
`;

/**
 * A worker takes the job up: the attempt number rises, which fences every earlier worker.
 * ARGV: nowMs, attemptsMax.
 * Returns {status, attempt}: 1 claimed; 0 already ended; -1 attempts used up (nothing written); -2 no such job.
 */
export const CLAIM = `${EMIT}
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return {-2, 0} end
local attempt = tonumber(redis.call('HGET', KEYS[1], 'attempt'))
if ended(state) then return {0, attempt} end
if attempt >= tonumber(ARGV[2]) then return {-1, attempt} end
attempt = attempt + 1
redis.call('HSET', KEYS[1], 'state', 'running', 'attempt', attempt)
redis.call('HSETNX', KEYS[1], 'startedAtMs', ARGV[1])
emit('started', '{"attempt":' .. attempt .. '}')
return {1, attempt}
`;

/**
 * Logs the next tokens of a running job. A client that lost the connection before it got the reply sends the same
 * again: tokens that are in the log already are not logged twice.
 * ARGV: attempt (the fence), count of tokens before these, count after these, data (JSON).
 * Returns 1; 2 if a cancel was asked for; -1 if the caller lost the job or it ended, or if tokens are missing before these.
 */
export const APPEND = `${EMIT}
local job = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'cancelRequested', 'tokens')
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return -1 end
local logged = tonumber(job[4] or '0')
if logged < tonumber(ARGV[2]) then return -1 end
if logged == tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'tokens', ARGV[3])
  emit('tokens', ARGV[4])
end
if job[3] == '1' then return 2 end
return 1
`;

/**
 * Ends the job.
 * ARGV: attempt (the fence; 0 for a job that no worker has), state, nowMs, retentionMs, text, outcome (JSON).
 * Returns 1; 0 if it had ended; -1 if the caller lost the job; -2 no such job.
 */
export const FINISH = `${EMIT}${END}
local job = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if not job[1] then return -2 end
if ended(job[1]) then return 0 end
if job[2] ~= ARGV[1] then return -1 end
finish(ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return 1
`;

/**
 * Cancels the job at once while it is queued; while it runs, asks its worker to.
 * ARGV: nowMs, retentionMs, outcome (JSON) of a job that never ran.
 * Returns 1 cancelled; 2 asked; 0 it had ended; -2 no such job.
 */
export const CANCEL = `${EMIT}${END}
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return -2 end
if ended(state) then return 0 end
redis.call('HSET', KEYS[1], 'cancelRequested', '1')
if state == 'queued' then
  finish('cancelled', ARGV[1], ARGV[2], '', ARGV[3])
  return 1
end
return 2
`;

/**
 * Deletes record and log. A job that has not ended is cancelled first, so that its readers hear of an end.
 * ARGV: nowMs, retentionMs, outcome (JSON).
 * Returns 1; -2 no such job.
 */
export const DELETE = `${EMIT}${END}
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return -2 end
if not ended(state) then finish('cancelled', ARGV[1], ARGV[2], '', ARGV[3]) end
redis.call('DEL', KEYS[1], KEYS[2])
return 1
`;
