/**
 * The Lua scripts that change one job. Each is one step, so that a job's state, its event log and its channel always agree.
 * Workers pass the fence of their attempt (fence.ts): a worker that has lost its job to another one is refused.
 *
 * KEYS[1] to KEYS[5] of all: job hash, event log, event channel, due jobs, text so far (jobScriptKeys).
 */
import { EVENT_LOG_LUA, JOB_LOCALS_LUA, WRITE_WHEN_FULL_LUA } from "./event-log.ts";
import { FACET_BYTES } from "./facets.ts";
import { FENCE_LUA } from "./fence.ts";
import { JOB_INDEX_LUA } from "./job-index-lua.ts";
import { STORED_BYTES_LUA } from "./stored-bytes.ts";
import { USAGE_LUA } from "../usage/usage-lua.ts";
import { FAIR_QUEUE_LUA } from "../queue/fair-queue-lua.ts";
import { LEASE_LUA } from "../queue/lease-lua.ts";
import {
  KEY_JOBS_PREFIX,
  KEY_RATES_PREFIX,
  LEASES_PREFIX,
  REQUEST_BYTES_KEY,
  SHARED_PREFIX,
  SIGNALS_CHANNEL,
} from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";

/** Milliseconds after a job's end until the sweeper publishes it, if the process that ended the job did not. */
const PUBLISH_MS = 10_000;

/** Milliseconds until the sweeper looks at a running job that was cancelled. */
const CANCEL_CHECK_MS = 1_000;
/** The shared parts of jobs expire this long after the last of them, so that no job is read without them. */
const SHARED_EXTRA_MS = 60_000;
/**
 * Bytes that Redis needs for an ended job besides its values: key names, fields, 4 KiB that a stream takes at least, and its
 * entries in the index.
 */
const JOB_OVERHEAD_BYTES = 7_168;
/** Bytes that an entry of a log needs besides its data. */
const ENTRY_OVERHEAD_BYTES = 16;
/** Lease of a job whose worker logs a token after its lease has expired. */
const REVIVED_LEASE_MS = 2_000;

/**
 * The prefill has begun.
 * ARGV: fence, tokens of the prompt. Returns 1; -1 if the caller has lost the job or it has ended.
 */
export const recordPrefill = defineScript(`${JOB_LOCALS_LUA}
local fence, promptTokens = unpack(ARGV)
${LEASE_LUA}${FENCE_LUA}
${WRITE_WHEN_FULL_LUA}
if redis.call('HGET', job, 'state') ~= 'running' or fenceOf(job) ~= fence then return -1 end
redis.call('HSET', job, 'prefillAtMs', redisNowMs(), 'promptTokens', promptTokens)
return 1
`);

/**
 * Logs the next tokens of a running job. A client that lost its connection before the reply sends the same tokens again:
 * tokens that the log already has are not logged twice.
 * The job's first token ties its lease to the weights that generated it.
 * ARGV: fence, count of tokens before these, count after these, data of the event (JSON), their text, id of the job, how many
 * of them belong to the prompt, and runs of the base since the tokens before these.
 * Returns 1; 2 if a cancellation was requested; -1 if the caller has lost the job, it has ended, or tokens before these are
 * missing.
 */
export const append = defineScript(`${JOB_LOCALS_LUA}
local fence, countBefore, countAfter, data, text, id, promptCount, baseCalls = unpack(ARGV)
${EVENT_LOG_LUA}${LEASE_LUA}${FENCE_LUA}
${WRITE_WHEN_FULL_LUA}
-- It runs for each step of a job, so it reads the hash once and writes it once: each command takes 2 to 4 µs of Redis.
local state, cancelRequested, tokens, decodeAtMs, attempt, claim, seq, runs, logBytes = unpack(redis.call('HMGET', job, 'state',
  'cancelRequested', 'tokens', 'decodeAtMs', 'attempt', 'claim', 'seq', 'baseCalls', 'logBytes'), 1, 9)
if state ~= 'running' or fenceOfFields(attempt, claim) ~= fence then return -1 end
local logged = tonumber(tokens or '0')
if logged < tonumber(countBefore) then return -1 end
if logged == tonumber(countBefore) then
  local nowMs = redisNowMs()
  local groupBefore = not decodeAtMs and groupOf(job)
  seq = seq + 1
  redis.call('HSET', job, 'tokens', countAfter, 'lastTokenAtMs', nowMs, 'seq', seq, 'baseCalls', (runs or 0) + baseCalls,
    'logBytes', (logBytes or 0) + #data + ${ENTRY_OVERHEAD_BYTES})
  if tonumber(promptCount or '0') > 0 then redis.call('HINCRBY', job, 'scoredPrompt', promptCount) end
  if groupBefore then
    -- While the prompt is scored, nothing is generated yet.
    if countAfter - countBefore > tonumber(promptCount or '0') then
      redis.call('HSET', job, 'decodeAtMs', nowMs, 'decodeTokens', countAfter)
      redis.call('HSETNX', job, 'firstTokenAtMs', nowMs)
    end
    -- Without a lease the job is a suspect: its worker was frozen, runs again, and renews this lease.
    local expiresMs = redis.call('ZSCORE', '${LEASES_PREFIX}' .. groupBefore, id) or nowMs + ${REVIVED_LEASE_MS}
    removeLease(groupBefore, id)
    setLease(groupOf(job), id, expiresMs)
  end
  redis.call('APPEND', textSoFar, text)
  logEntry(log, channel, seq, 'tokens', data)
end
if cancelRequested == '1' then return 2 end
return 1
`);

/**
 * Function of the three scripts that end a job: the state, text and outcome, the last event, the expiry of record and log
 * (sooner if the job has `keepMs`), and its place in the due set, so that the sweeper publishes the end. The job leaves the
 * queue, and its bytes count as stored ones (stored-bytes.ts). Its API key gets back one concurrent job, and the difference between
 * the reserved and the used tokens; so does its flow. The difference is negative if the job used more.
 * The job's hash names its lane, its flow and its API key, so their keys are not declared.
 *
 * ARGV[1]: retentionMs.
 */
const END_JOB_LUA = `${JOB_LOCALS_LUA}
local retentionMs = ARGV[1]
${EVENT_LOG_LUA}${FAIR_QUEUE_LUA}${LEASE_LUA}${STORED_BYTES_LUA}${JOB_INDEX_LUA}${USAGE_LUA}
local function releaseReservations(id, usedTokens)
  local laneName, flow, cost, pools, keyId, reservedTokens =
    unpack(redis.call('HMGET', job, 'lane', 'flow', 'cost', 'pools', 'keyId', 'reservedTokens'), 1, 6)
  -- A job of an earlier release that was not repaired yet has no lane.
  if laneName then
    removeLease(groupOf(job), id)
    local lane = openLane(laneName)
    cost = tonumber(cost or '0')
    -- A job that waited has not cost its flow anything yet; it does if its prompt was checked and refused.
    local wasWaiting = removeFromFlow(lane, flow, id, cost)
    if not wasWaiting or usedTokens > 0 then
      setStartTag(lane, flow, startTag(lane, flow) + usedTokens - (wasWaiting and 0 or cost))
    end
  end
  -- The release before wrote the only pool as \`keyId\`.
  for pool in string.gmatch(pools or keyId or '', '%S+') do
    redis.call('SREM', '${KEY_JOBS_PREFIX}' .. pool, id)
    -- A pool without a limit of tokens has no such rate, and a rate that is not used expires.
    if reservedTokens and redis.call('HEXISTS', '${KEY_RATES_PREFIX}' .. pool, 'tokens') == 1 then
      redis.call('HINCRBYFLOAT', '${KEY_RATES_PREFIX}' .. pool, 'tokens', reservedTokens - usedTokens)
    end
  end
end
-- The request's bytes count as those of an ended job from now on, with its output of \`outputBytes\` and its log. Those that several
-- jobs share do so with the end of the last one, after which they expire.
local function moveBytes(outputBytes, nowMs, ttlMs)
  local flow, bytes, shared, logBytes, tenant, facets =
    unpack(redis.call('HMGET', job, 'flow', 'bytes', 'shared', 'logBytes', 'tenant', 'facets'), 1, 6)
  local endedBytes = (bytes or 0) + outputBytes + (logBytes or 0) + ${JOB_OVERHEAD_BYTES} +
    ${FACET_BYTES} * select(2, string.gsub(facets or '', '\\n', ''))
  countStored(job, tenant, endedBytes, nowMs, ttlMs)
  if not bytes then return end
  redis.call('HDEL', job, 'bytes')
  if shared then
    local key = '${SHARED_PREFIX}' .. shared
    if redis.call('HINCRBY', key, 'open', -1) == 0 then
      local sharedBytes = redis.call('HGET', key, 'bytes') or 0
      bytes = bytes + sharedBytes
      countStored(key, tenant, sharedBytes, nowMs, ttlMs + ${SHARED_EXTRA_MS})
      redis.call('PEXPIRE', key, ttlMs + ${SHARED_EXTRA_MS})
    end
  end
  if redis.call('HINCRBY', '${REQUEST_BYTES_KEY}', flow, -bytes) <= 0 then
    redis.call('HDEL', '${REQUEST_BYTES_KEY}', flow)
  end
end
-- A job that its worker refuses gets nothing back: checking it has cost the worker, and refusals must not be free.
local function tokensUsed(ended)
  local code = type(ended.error) == 'table' and ended.error.code
  local isRefused = code == 'invalid_request' or code == 'context_length_exceeded'
  local reserved = isRefused and tonumber(redis.call('HGET', job, 'cost') or '0') or 0
  return math.max(reserved, ended.usage.total_tokens)
end
-- The usage of a job that its worker does not end: what it has logged so far.
local function usageSoFar(ended)
  local tokens, promptTokens, scoredPrompt, baseCalls =
    unpack(redis.call('HMGET', job, 'tokens', 'promptTokens', 'scoredPrompt', 'baseCalls'), 1, 4)
  local usage = ended.usage
  usage.prompt_tokens, usage.completion_tokens = tonumber(promptTokens or '0'), (tokens or 0) - (scoredPrompt or 0)
  usage.total_tokens = usage.prompt_tokens + usage.completion_tokens
  usage.base_calls = tonumber(baseCalls or '0')
end
-- When its worker is known to have worked on it last, if the worker does not end it.
local function lastSeenMs()
  local lastMs = 0
  for _, ms in ipairs(redis.call('HMGET', job, 'claimedAtMs', 'prefillAtMs', 'lastTokenAtMs')) do
    lastMs = math.max(lastMs, tonumber(ms or 0))
  end
  return lastMs
end
-- \`ended\` is the outcome; \`workedUntilMs\` is nil if the job's worker ends it now.
local function endJob(state, text, outcome, usedTokens, ended, workedUntilMs)
  local id, keepMs, tenant, facets, createdAtMs, pools, keyId, claimedAtMs, startedAtMs = unpack(
    redis.call('HMGET', job, 'id', 'keepMs', 'tenant', 'facets', 'createdAtMs', 'pools', 'keyId', 'claimedAtMs', 'startedAtMs'), 1, 9)
  local nowMs, ttlMs = redisNowMs(), math.min(retentionMs, tonumber(keepMs or retentionMs))
  releaseReservations(id, usedTokens)
  -- The log has the outcome too.
  moveBytes(#text + 2 * #outcome, nowMs, ttlMs)
  redis.call('HSET', job, 'state', state, 'endedAtMs', nowMs, 'text', text, 'outcome', outcome,
    'deletedAtMs', string.format('%.0f', nowMs + ttlMs))
  logEvent(job, log, channel, state, outcome)
  redis.call('ZADD', due, nowMs + ${PUBLISH_MS}, id)
  redis.call('DEL', textSoFar)
  redis.call('PEXPIRE', job, ttlMs)
  redis.call('PEXPIRE', log, ttlMs)
  -- Last: what a newer release wrote there must not keep readers from the end of a job.
  if not facets then tenant, facets, createdAtMs = indexed(job, id) end
  indexEnded(id, tenant, facets, createdAtMs, state, claimedAtMs, nowMs, string.format('%.0f', nowMs + ttlMs))
  local workedMs = claimedAtMs and math.max(0, (workedUntilMs or nowMs) - claimedAtMs) or 0
  local waitMs = startedAtMs and math.max(0, startedAtMs - createdAtMs)
  countUsage(tenant, string.match(facets, '^model:([^\\n]*)'), pools or keyId or '', state, ended, workedMs, waitMs, nowMs)
end
local function signal(kind) redis.call('PUBLISH', '${SIGNALS_CHANNEL}', kind .. ' ' .. redis.call('HGET', job, 'id')) end
${WRITE_WHEN_FULL_LUA}
`;

/**
 * Ends the job. ARGV[1] as in END_JOB_LUA.
 * ARGV[2]: fence (0 for a job that no worker has), then state, text, outcome (JSON), and 1 if the caller does not run the job.
 * Then text and usage are those of the log so far, which its worker may still write, and that worker gets a signal.
 * Returns 1; 0 if it had ended; -1 if the caller has lost the job; -2 no such job.
 */
export const finish = defineScript(`${END_JOB_LUA}${FENCE_LUA}
local fence, state, text, outcome, isForeign = unpack(ARGV, 2)
local stateBefore = redis.call('HGET', job, 'state')
if not stateBefore then return -2 end
if isEnded(stateBefore) then return 0 end
if fenceOf(job) ~= fence then return -1 end
local ended, workedUntilMs = cjson.decode(outcome), nil
if isForeign == '1' then
  text = redis.call('GET', textSoFar) or ''
  usageSoFar(ended)
  outcome, workedUntilMs = cjson.encode(ended), lastSeenMs()
end
endJob(state, text, outcome, tokensUsed(ended), ended, workedUntilMs)
if isForeign == '1' and stateBefore == 'running' then signal('end') end
return 1
`);

/**
 * Cancels a queued job; requests the cancellation of a running one, whose worker gets a signal. ARGV[1] as in END_JOB_LUA.
 * ARGV[2]: outcome (JSON) of a job that never ran.
 * Returns 1 cancelled; 2 requested; 0 it had ended; -2 no such job.
 */
export const cancel = defineScript(`${END_JOB_LUA}
local state = redis.call('HGET', job, 'state')
if not state then return -2 end
if isEnded(state) then return 0 end
redis.call('HSET', job, 'cancelRequested', '1')
if state ~= 'queued' then
  signal('cancel')
  -- If its worker is lost, the sweeper ends the job when the lease has expired.
  redis.call('ZADD', due, 'LT', redisNowMs() + ${CANCEL_CHECK_MS}, redis.call('HGET', job, 'id'))
  return 2
end
endJob('cancelled', '', ARGV[2], 0, cjson.decode(ARGV[2]))
return 1
`);

/**
 * Deletes record and log. A job that has not ended is cancelled first, so that its subscribers get a last event; the worker of
 * a running one gets a signal. KEYS and ARGV as in `cancel`. Returns 1; -2 no such job.
 */
export const deleteJob = defineScript(`${END_JOB_LUA}
local state, id, cost, tenant = unpack(redis.call('HMGET', job, 'state', 'id', 'cost', 'tenant'), 1, 4)
if not state then return -2 end
local usedTokens = 0
if state == 'running' then
  -- How many tokens a running job used is not known here: nothing is given back to its API key or to its flow.
  redis.call('HDEL', job, 'reservedTokens')
  usedTokens = tonumber(cost)
  signal('end')
end
if not isEnded(state) then
  local ended = cjson.decode(ARGV[2])
  usageSoFar(ended)
  endJob('cancelled', '', ARGV[2], usedTokens, ended, lastSeenMs())
end
uncountStored(job, tenant)
local shared = redis.call('HGET', job, 'shared')
if shared and redis.call('HINCRBY', '${SHARED_PREFIX}' .. shared, 'jobs', -1) <= 0 then
  uncountStored('${SHARED_PREFIX}' .. shared, tenant)
  redis.call('DEL', '${SHARED_PREFIX}' .. shared)
end
removeFromIndex(job, id)
redis.call('ZREM', due, id)
redis.call('DEL', job, log)
return 1
`);
