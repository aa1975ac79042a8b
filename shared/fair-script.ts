/**
 * Which job is next: start-time fair queueing between tenants, by priority and then by age within one. BullMQ gives a worker
 * the right to run a job (a permit) and keeps watch over it; which job that is, is decided here, when it is given. BullMQ's
 * own priorities are 21 bits and fixed when a job is added: neither virtual time nor an order within a tenant fits them.
 *
 * Each tenant has a tag: the virtual time at which its next job may start, in tokens. The lowest tag is served, and moves on
 * by what its job may cost; what the job did not use is given back when it ends. Who was idle starts at the time of the last
 * one served, so nobody saves up, and a flood only moves its own tag. A tenant's batches have a flow of their own, whose tags
 * begin where no other comes: they are served when nobody waits.
 */
import type { NewJob } from "./job.ts";
import {
  FAIR_CLOCK_KEY,
  FAIR_COUNT_KEY,
  FAIR_QUEUE_PREFIX,
  FAIR_RESTING_KEY,
  FAIR_TOKENS_KEY,
  FAIR_WAITING_KEY,
  JOB_PREFIX,
  PERMITS_KEY,
} from "./redis-keys.ts";

/** Jobs of one tenant differ in priority first; 2^40 jobs later they would in age. */
const PRIORITY_STEP = 2 ** 40;

/** Where the tags of batches begin: 2^50 tokens from now. */
const BATCH_TAG = 2 ** 50;

/** By which the scripts tell the flow of a tenant's batches. */
const BATCH_MARK = "~";

/** Among whose jobs a job waits. */
export function flowOf({ tenant, asked }: Pick<NewJob, "tenant" | "asked">): string {
  return asked.batch === undefined ? tenant : BATCH_MARK + tenant;
}

/** Parts that the scripts share. A job's cost (tokens) and flow are fields of its hash. */
export const FAIR = `
local function fairBase(flow) return string.sub(flow, 1, 1) == '${BATCH_MARK}' and ${BATCH_TAG} or 0 end
local function fairClock(flow) return '${FAIR_CLOCK_KEY}' .. fairBase(flow) end
local function fairQueue(flow) return '${FAIR_QUEUE_PREFIX}' .. flow end
local function fairTag(flow)
  local tag = redis.call('ZSCORE', '${FAIR_WAITING_KEY}', flow)
  if tag then return tonumber(tag) end
  local clock = tonumber(redis.call('GET', fairClock(flow)) or fairBase(flow))
  return math.max(clock, tonumber(redis.call('ZSCORE', '${FAIR_RESTING_KEY}', flow) or clock))
end
-- A flow's tag, among those of flows that wait or of those that do not.
local function fairMove(flow, tag)
  local waits = redis.call('EXISTS', fairQueue(flow)) == 1
  redis.call('ZREM', waits and '${FAIR_RESTING_KEY}' or '${FAIR_WAITING_KEY}', flow)
  redis.call('ZADD', waits and '${FAIR_WAITING_KEY}' or '${FAIR_RESTING_KEY}', string.format('%.17g', tag), flow)
end
local function fairAdd(id, flow, cost, priority)
  local tag = fairTag(flow)
  local place = redis.call('INCR', '${FAIR_COUNT_KEY}') - priority * ${PRIORITY_STEP}
  redis.call('ZADD', fairQueue(flow), string.format('%.0f', place), id)
  redis.call('HINCRBY', '${FAIR_TOKENS_KEY}', flow, cost)
  fairMove(flow, tag)
end
-- Returns whether the job was waiting.
local function fairRemove(id, flow, cost)
  local tag = fairTag(flow)
  if redis.call('ZREM', fairQueue(flow), id) == 0 then return false end
  if redis.call('HINCRBY', '${FAIR_TOKENS_KEY}', flow, -cost) == 0 then
    redis.call('HDEL', '${FAIR_TOKENS_KEY}', flow)
  end
  fairMove(flow, tag)
  return true
end
`;

/**
 * The job that a permit is for: the one that it had before its worker was lost, or the next one.
 * KEYS[1] = lock of the permit. ARGV: permit, token that the lock must have.
 * Returns {job id, whether its last attempt was lost without a token}, or nothing where no job waits, or where the worker
 * slept so long that the permit is another's: a job that it took now would be in nobody's care.
 */
export const TAKE = `${FAIR}
if redis.call('GET', KEYS[1]) ~= ARGV[2] then return false end
local id = redis.call('HGET', '${PERMITS_KEY}', ARGV[1])
if not id then
  local next = redis.call('ZRANGE', '${FAIR_WAITING_KEY}', 0, 0, 'WITHSCORES')
  if not next[1] then return false end
  local flow, tag = next[1], tonumber(next[2])
  id = redis.call('ZRANGE', fairQueue(flow), 0, 0)[1]
  local cost = tonumber(redis.call('HGET', '${JOB_PREFIX}' .. id, 'cost') or '0')
  fairRemove(id, flow, cost)
  redis.call('SET', fairClock(flow), next[2])
  -- A tag that has been passed says nothing any more.
  redis.call('ZREMRANGEBYSCORE', '${FAIR_RESTING_KEY}', tag < ${BATCH_TAG} and '-inf' or '${BATCH_TAG}', next[2])
  fairMove(flow, tag + cost)
  redis.call('HSET', '${PERMITS_KEY}', ARGV[1], id)
end
local job = redis.call('HMGET', '${JOB_PREFIX}' .. id, 'state', 'tokens', 'claimedTokens')
return {id, job[1] == 'running' and (job[2] or '0') == job[3] and 1 or 0}
`;

/** Ends the use of a permit, unless its job goes on, at a worker that took it over. ARGV: permit, job id. */
export const USE_UP = `
local state = redis.call('HGET', '${JOB_PREFIX}' .. ARGV[2], 'state')
if state ~= 'queued' and state ~= 'running' then redis.call('HDEL', '${PERMITS_KEY}', ARGV[1]) end
`;

/** ARGV: how many at most. Returns ids of waiting jobs, in no order. */
export const WAITING = `
local ids = {}
for _, flow in ipairs(redis.call('ZRANGE', '${FAIR_WAITING_KEY}', 0, ARGV[1] - 1)) do
  for _, id in ipairs(redis.call('ZRANGE', '${FAIR_QUEUE_PREFIX}' .. flow, 0, ARGV[1] - #ids - 1)) do
    ids[#ids + 1] = id
  end
  if #ids >= tonumber(ARGV[1]) then break end
end
return ids
`;

/**
 * How much is to start before a job that waits, or before one that would be added now.
 * ARGV: flow, job id or '', priority.
 * Returns {jobs, their cost in tokens}, of other tenants' by the mean of theirs; or nothing where the job does not wait.
 */
export const LOCATE = `${FAIR}
local flow, id = ARGV[1], ARGV[2]
local own = fairQueue(flow)
local jobs
if id ~= '' then
  jobs = redis.call('ZRANK', own, id)
  if not jobs then return false end
else
  local place = (tonumber(redis.call('GET', '${FAIR_COUNT_KEY}') or '0') + 1) - ARGV[3] * ${PRIORITY_STEP}
  jobs = redis.call('ZCOUNT', own, '-inf', string.format('%.0f', place))
end
local tokens = 0
for _, before in ipairs(jobs > 0 and redis.call('ZRANGE', own, 0, jobs - 1) or {}) do
  tokens = tokens + tonumber(redis.call('HGET', '${JOB_PREFIX}' .. before, 'cost') or '0')
end
local start = fairTag(flow) + tokens
local others = redis.call('ZRANGEBYSCORE', '${FAIR_WAITING_KEY}', '-inf', string.format('%.17g', start), 'WITHSCORES')
for i = 1, #others, 2 do
  if others[i] ~= flow then
    local all = tonumber(redis.call('HGET', '${FAIR_TOKENS_KEY}', others[i]))
    local count = redis.call('ZCARD', fairQueue(others[i]))
    local share = math.ceil(math.min(1, (start - others[i + 1]) / all) * count)
    jobs = jobs + share
    tokens = tokens + all * share / count
  end
end
return {jobs, math.floor(tokens)}
`;
