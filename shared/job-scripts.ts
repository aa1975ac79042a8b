/**
 * The Lua scripts through which a job changes. Redis runs each as one step, so a job's state, its event log
 * and the bell never disagree, and a worker that lost its job (a lower attempt number) is refused: the fence.
 *
 * All take KEYS[1] = job hash, KEYS[2] = log stream, KEYS[3] = bell channel; an API key's counters have their names from
 * its id, and share the hash tag.
 */
import { EMIT, EVEN_WHEN_FULL } from "./emit-script.ts";
import { FAIR } from "./fair-script.ts";
import { DUE_KEY, KEY_JOBS_PREFIX, KEY_RATES_PREFIX } from "./redis-keys.ts";

/** After an end, ms until somebody announces it who did not end it: whoever did may have died, or Redis may be full. */
const ANNOUNCE_MS = 10_000;

/**
 * Ends the job: state, text and outcome, the terminal event, the time to live of record and log (which a job may have asked
 * to be shorter: keepMs), a look at whether it was announced, out of the queue, and what comes back: to its API key a place among
 * its jobs, and of the tokens that were reserved those that were not used; these to its tenant's share as well.
 */
const END = `${FAIR}
local function release(nowMs, outcome)
  local job = redis.call('HMGET', KEYS[1], 'keyId', 'id', 'reservedTokens', 'flow', 'cost')
  local flow, cost = job[4], tonumber(job[5] or '0')
  local used = cjson.decode(outcome).usage.total_tokens
  redis.call('ZADD', '${DUE_KEY}', nowMs + ${ANNOUNCE_MS}, job[2])
  if not fairRemove(job[2], flow, cost) then fairMove(flow, fairTag(flow) - math.max(0, cost - used)) end
  if not job[1] then return end
  redis.call('SREM', '${KEY_JOBS_PREFIX}' .. job[1], job[2])
  local rates = '${KEY_RATES_PREFIX}' .. job[1]
  -- A revoked key has no rates any more.
  if job[3] and redis.call('HEXISTS', rates, 'tokens') == 1 then
    redis.call('HINCRBYFLOAT', rates, 'tokens', job[3] - used)
  end
end
local function finish(state, nowMs, retentionMs, text, outcome)
  retentionMs = math.min(retentionMs, tonumber(redis.call('HGET', KEYS[1], 'keepMs') or retentionMs))
  redis.call('HSET', KEYS[1], 'state', state, 'endedAtMs', nowMs, 'text', text, 'outcome', outcome,
    'deletedAtMs', string.format('%.0f', tonumber(nowMs) + tonumber(retentionMs)))
  emit(state, outcome)
  release(nowMs, outcome)
  redis.call('PEXPIRE', KEYS[1], retentionMs)
  redis.call('PEXPIRE', KEYS[2], retentionMs)
end
`;

/**
 * A worker takes the job up: the attempt number rises, which fences every earlier worker. Attempts that were lost without
 * a token speak against the job, those that came further do not: they were lost with somebody else.
 * ARGV: nowMs, attemptsMax, then, unless whoever calls may, the lock of its permit and the token that the lock must have: a
 * worker that slept must not take the job from the one that has the permit since.
 * Returns {status, attempt, of the attempt before: when it was claimed, when it last logged a token, as strings}: 1 claimed;
 * 0 already ended; -1 attempts used up, -3 too late to start and -4 the permit is another's (nothing written); -2 no such job.
 */
export const CLAIM = `${EMIT}
${EVEN_WHEN_FULL}
local job = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'tokens', 'claimedTokens', 'lost', 'startByMs',
  'deadlineMs', 'id', 'claimedAtMs', 'lastTokenAtMs')
if not job[1] then return {-2, 0} end
local attempt, tokens = tonumber(job[2]), job[3] or '0'
if ended(job[1]) then return {0, attempt} end
if ARGV[3] and redis.call('GET', ARGV[3]) ~= ARGV[4] then return {-4, attempt} end
local lost = tokens == job[4] and tonumber(job[5]) + 1 or 0
if lost >= tonumber(ARGV[2]) then return {-1, attempt} end
if attempt == 0 and job[6] and tonumber(ARGV[1]) > tonumber(job[6]) then return {-3, 0} end
attempt = attempt + 1
redis.call('ZADD', '${DUE_KEY}', job[7], job[8])
redis.call('HSET', KEYS[1], 'state', 'running', 'attempt', attempt, 'claimedAtMs', ARGV[1],
  'claimedTokens', tokens, 'lost', lost)
redis.call('HSETNX', KEYS[1], 'startedAtMs', ARGV[1])
redis.call('HDEL', KEYS[1], 'prefillAtMs', 'decodeAtMs')
emit('started', '{"attempt":' .. attempt .. '}')
return {1, attempt, job[9], job[10]}
`;

/**
 * The engine has begun with the prompt. ARGV: attempt (the fence), nowMs, tokens of the prompt.
 * Returns 1; -1 if the caller lost the job or it ended.
 */
export const PREFILL = `
${EVEN_WHEN_FULL}
local job = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return -1 end
redis.call('HSET', KEYS[1], 'prefillAtMs', ARGV[2], 'promptTokens', ARGV[3])
return 1
`;

/**
 * Logs the next tokens of a running job. A client that lost the connection before it got the reply sends the same
 * again: tokens that are in the log already are not logged twice.
 * ARGV: attempt (the fence), count of tokens before these, count after these, data (JSON), nowMs.
 * Returns 1; 2 if a cancel was asked for; -1 if the caller lost the job or it ended, or if tokens are missing before these.
 */
export const APPEND = `${EMIT}
${EVEN_WHEN_FULL}
local job = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'cancelRequested', 'tokens', 'decodeAtMs')
if job[1] ~= 'running' or job[2] ~= ARGV[1] then return -1 end
local logged = tonumber(job[4] or '0')
if logged < tonumber(ARGV[2]) then return -1 end
if logged == tonumber(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'tokens', ARGV[3], 'lastTokenAtMs', ARGV[5])
  if not job[5] then
    redis.call('HSET', KEYS[1], 'decodeAtMs', ARGV[5], 'decodeTokens', ARGV[3])
    redis.call('HSETNX', KEYS[1], 'firstTokenAtMs', ARGV[5])
  end
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
${EVEN_WHEN_FULL}
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
${EVEN_WHEN_FULL}
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
${EVEN_WHEN_FULL}
local state = redis.call('HGET', KEYS[1], 'state')
if not state then return -2 end
-- What a running job used is not known here: it keeps the tokens that it reserved.
if state == 'running' then redis.call('HDEL', KEYS[1], 'reservedTokens') end
if not ended(state) then finish('cancelled', ARGV[1], ARGV[2], '', ARGV[3]) end
redis.call('ZREM', '${DUE_KEY}', redis.call('HGET', KEYS[1], 'id'))
redis.call('DEL', KEYS[1], KEYS[2])
return 1
`;
