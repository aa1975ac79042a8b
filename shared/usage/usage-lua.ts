/**
 * The use of the service, counted in the script that ends a job, so each job counts once whatever happens to its workers: for its
 * tenant, by day (UTC, of its end), API key and model. Work of lost attempts is not counted.
 *
 * An entry is one field of a hash: the JSON array of its sums, in the order of USAGE_SUMS. A day has a limited number of entries; what
 * is beyond counts in one entry for all others. So deleted keys and models take a bounded room, and the sums of a day stay exact.
 */
import { LIMITS } from "../api/limits.ts";
import {
  ACTIVITY_PREFIX,
  FAILURES_PREFIX,
  USAGE_PREFIX,
  USAGE_TENANTS_PREFIX,
} from "../redis/keys.ts";

export const DAY_MS = 86_400_000;
export const HOUR_MS = 3_600_000;
export const MINUTE_MS = 60_000;

/** The sums of an entry, in their order. `ms` is the time in which workers ran its jobs. */
export const USAGE_SUMS = [
  "succeeded",
  "failed",
  "cancelled",
  "expired",
  "promptTokens",
  "cachedTokens",
  "completionTokens",
  "baseCalls",
  "ms",
] as const;

/**
 * The sums of a minute, in their order: those of the jobs that ended in it. `started` are those of them that a worker had started, after
 * `waitMs` together.
 */
export const ACTIVITY_SUMS = [
  "succeeded",
  "failed",
  "cancelled",
  "expired",
  "promptTokens",
  "completionTokens",
  "ms",
  "started",
  "waitMs",
] as const;

/** The key and the model of an entry that counts all others of its day. */
export const OTHERS = "";
/** Separates the two parts of an entry's name. */
export const NAME_SEPARATOR = "\n";

/**
 * Lua function for a job of `tenant` that ends. `pools` are the pools of its limits, the first of them its API key's; `ended` is its
 * outcome; its worker worked on it for `ms`; a worker started it after `waitMs`, or none did (nil).
 */
export const USAGE_LUA = `
local function expireWithDay(key, day)
  redis.call('PEXPIREAT', key, string.format('%.0f', (day + ${LIMITS.usageDays}) * ${DAY_MS}))
end
-- A newer release may have more sums.
local function addTo(key, name, before, sums)
  if before then
    for i, sum in ipairs(cjson.decode(before)) do sums[i] = (sums[i] or 0) + sum end
  end
  redis.call('HSET', key, name, cjson.encode(sums))
end
local function countMinute(tenant, sums, nowMs)
  local hour = math.floor(nowMs / ${HOUR_MS})
  local key, minute = '${ACTIVITY_PREFIX}' .. hour .. ':' .. tenant, math.floor(nowMs / ${MINUTE_MS})
  local before = redis.call('HGET', key, minute)
  addTo(key, minute, before, sums)
  if not before then redis.call('PEXPIREAT', key, string.format('%.0f', (hour + 2) * ${HOUR_MS})) end
end
local function countUsage(tenant, model, pools, state, ended, ms, waitMs, nowMs)
  -- The key's batches count in a pool of their own.
  local name = string.match(pools, '^[^ :]*') .. '\\n' .. model
  local usage, day = ended.usage, math.floor(nowMs / ${DAY_MS})
  local function ofState(which) return state == which and 1 or 0 end
  local succeeded, failed, cancelled, expired =
    ofState('succeeded'), ofState('failed'), ofState('cancelled'), ofState('expired')
  for _, owner in ipairs({tenant, ''}) do
    countMinute(owner, {
      succeeded, failed, cancelled, expired,
      usage.prompt_tokens, usage.completion_tokens, ms, waitMs and 1 or 0, waitMs or 0
    }, nowMs)
  end
  local sums = {
    succeeded, failed, cancelled, expired,
    usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens, usage.base_calls or 0, ms
  }
  local key = '${USAGE_PREFIX}' .. tenant .. ':' .. day
  local before = redis.call('HGET', key, name)
  if not before and redis.call('HLEN', key) >= ${LIMITS.usageEntriesMax} then
    name = '${OTHERS}\\n${OTHERS}'
    before = redis.call('HGET', key, name)
  end
  addTo(key, name, before, sums)
  if not before then
    local tenants = '${USAGE_TENANTS_PREFIX}' .. day
    redis.call('SADD', tenants, tenant)
    expireWithDay(key, day)
    expireWithDay(tenants, day)
  end
  if type(ended.error) == 'table' then
    local failures = '${FAILURES_PREFIX}' .. day
    if redis.call('HINCRBY', failures, ended.error.code, 1) == 1 then expireWithDay(failures, day) end
  end
end
`;
