/** The Lua script that creates a request's jobs, if its API key's limits let them and it was not made before: one step. */
import type { Repetition } from "./admission.ts";
import { EMIT } from "./emit-script.ts";
import { FAIR } from "./fair-script.ts";
import { DUE_KEY, KEY_JOBS_PREFIX, KEY_RATES_PREFIX } from "./redis-keys.ts";
import { REPETITION } from "./repetition-script.ts";

/** What the script is told beside the jobs' fields; without a key id there are no limits. */
export interface SubmitOrder {
  readonly jobs: readonly {
    readonly id: string;
    /** When it expires if nobody has taken it up. */
    readonly expiresMs: number;
    readonly flow: string;
    readonly priority: number;
    /** Tokens that it reserves. */
    readonly tokens: number;
    /** Length of its part of the arguments. */
    readonly args: number;
  }[];
  readonly keyId?: string;
  /** Limits a minute. */
  readonly rates: { readonly requests?: number; readonly tokens?: number };
  /** What the request takes of each. */
  readonly costs: { readonly requests: number; readonly tokens: number };
  /** Jobs of the key that have not ended, at most. */
  readonly jobsMax?: number;
  readonly repetition?: Repetition;
}

/**
 * KEYS: as in job-scripts.ts, of each job. ARGV: the SubmitOrder as JSON, then field, value, ... of each job's hash.
 * A rate is a bucket that refills continuously within a minute. Names under which requests are remembered and counters of
 * an API key are not among the KEYS; they share the hash tag.
 * Returns {status, wait in ms, requests left, tokens left, unended jobs}, where status is 'created' or the name of the limit
 * that is in the way; or {'existing', id of the first job}; or {'conflict'}. Unless it is 'created', nothing was written.
 */
export const SUBMIT = `${EMIT}${FAIR}${REPETITION}
local order = cjson.decode(ARGV[1])
-- A client that lost the connection before it got the reply sends the same again.
if redis.call('EXISTS', KEYS[1]) == 1 then return {'created', 0, 0, 0, 0} end
local before = repeated(order.repetition)
if before then return before end

local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local status, waitMs, left = 'created', 0, {requests = 0, tokens = 0}
local bucket = '${KEY_RATES_PREFIX}' .. (order.keyId or '')
for name, limit in pairs(order.rates) do
  local stored = redis.call('HMGET', bucket, name, name .. 'AtMs')
  left[name] = limit
  if stored[1] then
    left[name] = math.min(limit, stored[1] + limit * math.max(0, nowMs - stored[2]) / 60000)
  end
  local wait = math.ceil((order.costs[name] - left[name]) * 60000 / limit)
  if wait > waitMs then status, waitMs = name, wait end
end
local unended = '${KEY_JOBS_PREFIX}' .. (order.keyId or '')
local jobCount = redis.call('SCARD', unended)
if order.jobsMax and jobCount + #order.jobs > order.jobsMax then status, waitMs = 'jobs', 0 end

if status == 'created' then
  for name in pairs(order.rates) do
    left[name] = left[name] - order.costs[name]
    redis.call('HSET', bucket, name, left[name], name .. 'AtMs', nowMs)
  end
  local first = 2
  for i, job in ipairs(order.jobs) do
    local at = 3 * i - 2
    redis.call('HSET', KEYS[at], unpack(ARGV, first, first + job.args - 1))
    first = first + job.args
    if order.rates.tokens then redis.call('HSET', KEYS[at], 'reservedTokens', job.tokens) end
    if order.keyId then
      redis.call('HSET', KEYS[at], 'keyId', order.keyId)
      redis.call('SADD', unended, job.id)
      jobCount = jobCount + 1
    end
    redis.call('ZADD', '${DUE_KEY}', job.expiresMs, job.id)
    local cost = math.max(1, job.tokens)
    redis.call('HSET', KEYS[at], 'cost', cost, 'flow', job.flow)
    fairAdd(job.id, job.flow, cost, job.priority)
    emit('queued', '{}', at)
  end
  remember(order.repetition, order.jobs[1].id)
end
return {status, waitMs, math.max(0, left.requests), math.max(0, left.tokens), jobCount}
`;
