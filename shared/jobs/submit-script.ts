/** The Lua script that creates the jobs of a request in one step, if the request is new and its API key's limits allow them. */
import type { LimitName } from "./admission.ts";
import { EVENT_LOG_LUA, jobKeys } from "./event-log.ts";
import { FACET_SEPARATOR, JOB_INDEX_LUA, jobSetKey } from "./job-index-lua.ts";
import { STORED_BYTES_LUA } from "./stored-bytes.ts";
import { FAIR_QUEUE_LUA, flowQueueKey, laneKeys } from "../queue/fair-queue-lua.ts";
import { LEASE_LUA } from "../queue/lease-lua.ts";
import { IDEMPOTENCY_LUA } from "../redis/idempotency.ts";
import {
  DUE_KEY,
  KEY_JOBS_PREFIX,
  KEY_RATES_PREFIX,
  REQUEST_BYTES_KEY,
  SHARED_PREFIX,
  sharedKey,
  STORED_BYTES_PREFIX,
} from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";

/** Rates that are not used for this long are forgotten: an empty one is full again after a minute. */
export const RATES_TTL_MS = 120_000;

/** The script's first argument, as JSON. */
export interface SubmitOrder {
  /** The flow of all jobs: a request has one tenant. */
  readonly flow: string;
  readonly tenant: string;
  /** The flows of the tenant: that of its requests and that of its batches. */
  readonly tenantFlows: readonly string[];
  readonly jobs: readonly {
    readonly id: string;
    readonly lane: string;
    /** Milliseconds until the job expires. */
    readonly deadlineInMs: number;
    /** Milliseconds until the job expires if it has not started; absent for the deadline. */
    readonly startByInMs?: number;
    /** The deadline is at most this (Unix ms); absent for no bound. */
    readonly deadlineMaxMs?: number;
    readonly priority: number;
    /** Its facets in the index of the tenant's jobs (facets.ts). */
    readonly facets: string;
    /** Tokens that the job reserves. */
    readonly tokens: number;
    /** How many of the script's arguments are fields and values of the job's hash. */
    readonly args: number;
  }[];
  /** The limits that the request counts towards. */
  readonly pools: readonly {
    readonly id: string;
    /** Limits per minute. */
    readonly rates: { readonly requests?: number; readonly tokens?: number };
    /** Jobs that have not ended, at most. */
    readonly jobsMax?: number;
  }[];
  /** How much of each limit the request uses. */
  readonly costs: { readonly requests: number; readonly tokens: number };
  /** The parts that several of the jobs share, in the order of the arguments after those of the jobs. */
  readonly shared: readonly { readonly id: string; readonly args: number }[];
  /** Bytes of the requests of this flow that wait or run, at most. */
  readonly bytesMax: number;
  /** Bytes of the tenant's requests that wait or run and of its ended jobs together, at most. */
  readonly storedBytesMax: number;
}

/** KEYS of the script. @param claimKey of the idempotency claim; null for none */
export function submitKeys(order: SubmitOrder, claimKey: string | null): string[] {
  const { flow, tenant, jobs, pools, shared } = order;
  const facets = jobs.flatMap((job) => ["all", "open", ...job.facets.split(FACET_SEPARATOR)]);
  const declaredOnly = [
    STORED_BYTES_PREFIX + tenant,
    ...jobs.flatMap(({ lane }) => [...laneKeys(lane), flowQueueKey(lane, flow)]),
    ...facets.map((facet) => jobSetKey(tenant, facet)),
    ...shared.map(({ id }) => sharedKey(id)),
  ];
  return [
    DUE_KEY,
    ...pools.flatMap(({ id }) => [KEY_RATES_PREFIX + id, KEY_JOBS_PREFIX + id]),
    ...jobs.flatMap(({ id }) => jobKeys(id)),
    ...(claimKey === null ? [] : [claimKey]),
    ...new Set(declaredOnly),
  ];
}

/** The reply of the script. */
export type SubmitReply =
  | [
      status: "created" | LimitName,
      waitMs: number,
      requestsLeft: number,
      tokensLeft: number,
      jobsLeft: number,
      /** When the first job was created (Unix ms), by the clock of Redis; 0 if none was. */
      createdAtMs: number,
      /** Index of the pool whose limit is exceeded. */
      pool: number,
    ]
  | ["full"]
  /** @param waitMs until enough ended jobs have expired; -1 if open requests have more bytes than allowed */
  | ["stored", waitMs: number]
  | ["existing", jobId: string]
  | ["conflict"];

/**
 * A rate limit is a token bucket: it refills continuously, and an empty one is full again after a minute.
 *
 * KEYS: due jobs; of each pool: rates, unended jobs; of each job: hash, log, channel; with an idempotency claim, its key; then, declared
 * only, those of the lanes, sets of the index and shared parts that the order names (submitKeys).
 * ARGV: SubmitOrder (JSON), idempotency claim (claimJson), then field, value, ... of each job's hash and of what they share.
 * Returns a SubmitReply. Its status is 'created', the name of the limit that is exceeded, 'full' if the requests that wait or
 * run would have more bytes than allowed, or 'stored' if they and the ended jobs would. If it is not 'created', nothing
 * was written. A client that lost its connection before the reply sends the same again, and gets 'created' again.
 */
export const submitJobs = defineScript(`
local due = KEYS[1]
${EVENT_LOG_LUA}${FAIR_QUEUE_LUA}${LEASE_LUA}${IDEMPOTENCY_LUA}${STORED_BYTES_LUA}${JOB_INDEX_LUA}
local order, claim = cjson.decode(ARGV[1]), cjson.decode(ARGV[2])
local FIRST_JOB = 2 + 2 * #order.pools
local claimKey = KEYS[FIRST_JOB + 3 * #order.jobs]
local isRepeated = redis.call('EXISTS', KEYS[FIRST_JOB]) == 1
local known = not isRepeated and findClaimed(claimKey, claim)
if known then return known end

local nowMs = redisNowMs()
local createdAtMs = isRepeated and tonumber(redis.call('HGET', KEYS[FIRST_JOB], 'createdAtMs')) or nowMs
local status, waitMs, limiting = 'created', 0, 0
local left = {requests = math.huge, tokens = math.huge, jobs = math.huge}
local poolIds = {}
for i, pool in ipairs(order.pools) do
  local rates, unendedJobs = KEYS[2 * i], KEYS[2 * i + 1]
  poolIds[i] = pool.id
  pool.left = {}
  for name, limit in pairs(pool.rates) do
    local stored = redis.call('HMGET', rates, name, name .. 'AtMs')
    pool.left[name] = limit
    if stored[1] then
      pool.left[name] = math.min(limit, stored[1] + limit * math.max(0, nowMs - stored[2]) / 60000)
    end
    local wait = math.ceil((order.costs[name] - pool.left[name]) * 60000 / limit)
    if wait > waitMs and status ~= 'jobs' then status, waitMs, limiting = name, wait, i - 1 end
  end
  pool.left.jobs = pool.jobsMax and pool.jobsMax - redis.call('SCARD', unendedJobs)
  if pool.left.jobs and pool.left.jobs < #order.jobs then status, waitMs, limiting = 'jobs', 0, i - 1 end
end
if isRepeated then status, waitMs = 'created', 0 end

local function argBytes(first, count)
  local sum = 0
  for i = first, first + count - 1 do sum = sum + #ARGV[i] end
  return sum
end
local bytes = argBytes(3, #ARGV - 2)
if status == 'created' and not isRepeated then
  local held = tonumber(redis.call('HGET', '${REQUEST_BYTES_KEY}', order.flow) or '0')
  if held + bytes > order.bytesMax then return {'full'} end
  local open = 0
  for _, flowBytes in ipairs(redis.call('HMGET', '${REQUEST_BYTES_KEY}', unpack(order.tenantFlows))) do
    open = open + (flowBytes or 0)
  end
  local storedWaitMs = untilStoredAtMost(order.tenant, order.storedBytesMax - open - bytes, nowMs)
  if storedWaitMs ~= 0 then return {'stored', storedWaitMs} end
  redis.call('HSET', '${REQUEST_BYTES_KEY}', order.flow, held + bytes)
  for i, pool in ipairs(order.pools) do
    for name in pairs(pool.rates) do
      pool.left[name] = pool.left[name] - order.costs[name]
      redis.call('HSET', KEYS[2 * i], name, pool.left[name], name .. 'AtMs', nowMs)
      redis.call('PEXPIRE', KEYS[2 * i], ${RATES_TTL_MS})
    end
    if pool.left.jobs then pool.left.jobs = pool.left.jobs - #order.jobs end
  end
  local firstArg = 3
  for i, new in ipairs(order.jobs) do
    local job, log, channel = unpack(KEYS, FIRST_JOB + 3 * (i - 1), FIRST_JOB + 3 * i - 1)
    local deadlineMs = math.min(nowMs + new.deadlineInMs, new.deadlineMaxMs or math.huge)
    local cost = math.max(1, new.tokens)
    local fields = {unpack(ARGV, firstArg, firstArg + new.args - 1)}
    local function add(...)
      for _, value in ipairs({...}) do fields[#fields + 1] = value end
    end
    add('bytes', argBytes(firstArg, new.args), 'createdAtMs', nowMs, 'deadlineMs', deadlineMs)
    add('cost', cost, 'flow', order.flow, 'lane', new.lane, 'facets', new.facets)
    firstArg = firstArg + new.args
    if #poolIds > 0 then
      -- The release before reads only keyId. Its processes end jobs too during an upgrade.
      add('pools', table.concat(poolIds, ' '), 'keyId', poolIds[1], 'reservedTokens', new.tokens)
    end
    for p = 1, #order.pools do redis.call('SADD', KEYS[2 * p + 1], new.id) end
    if new.startByInMs then add('startByMs', nowMs + new.startByInMs) end
    redis.call('HSET', job, unpack(fields))
    redis.call('ZADD', due, math.min(deadlineMs, nowMs + (new.startByInMs or math.huge)), new.id)
    addToFlow(openLane(new.lane), order.flow, new.id, cost, new.priority, nowMs)
    indexSubmitted(order.tenant, new.facets, nowMs, new.id)
    logEvent(job, log, channel, 'queued', '{}')
  end
  for _, shared in ipairs(order.shared) do
    local key = '${SHARED_PREFIX}' .. shared.id
    redis.call('HSET', key, unpack(ARGV, firstArg, firstArg + shared.args - 1))
    redis.call('HSET', key, 'bytes', argBytes(firstArg, shared.args))
    firstArg = firstArg + shared.args
  end
  saveClaim(claimKey, claim, order.jobs[1].id)
end
for _, pool in ipairs(order.pools) do
  for name, count in pairs(pool.left) do left[name] = math.min(left[name], math.max(0, count)) end
end
for name, count in pairs(left) do if count == math.huge then left[name] = 0 end end
return {status, waitMs, left.requests, left.tokens, left.jobs, status == 'created' and createdAtMs or 0, limiting}
`);
