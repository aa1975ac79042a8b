/**
 * The use of the service, counted in the script that ends a job, so each job counts once whatever happens to its workers: for its
 * tenant, by day (UTC, of its end), API key and model. Work of lost attempts is not counted.
 *
 * An entry is one field of a hash: the JSON array of its sums, in the order of USAGE_SUMS. A day has a limited number of entries; what
 * is beyond counts in one entry for all others. So deleted keys and models take a bounded room, and the sums of a day stay exact.
 */
import { LIMITS } from "../api/limits.ts";
import { FAILURES_PREFIX, USAGE_PREFIX, USAGE_TENANTS_PREFIX } from "../redis/keys.ts";

export const DAY_MS = 86_400_000;

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

/** The key and the model of an entry that counts all others of its day. */
export const OTHERS = "";
/** Separates the two parts of an entry's name. */
export const NAME_SEPARATOR = "\n";

/**
 * Lua function for a job of `tenant` that ends. `pools` are the pools of its limits, the first of them its API key's; `ended` is its
 * outcome; its worker worked on it for `ms`.
 */
export const USAGE_LUA = `
local function expireWithDay(key, day)
  redis.call('PEXPIREAT', key, string.format('%.0f', (day + ${LIMITS.usageDays}) * ${DAY_MS}))
end
local function countUsage(tenant, model, pools, state, ended, ms, nowMs)
  -- The key's batches count in a pool of their own.
  local name = string.match(pools, '^[^ :]*') .. '\\n' .. model
  local usage, day = ended.usage, math.floor(nowMs / ${DAY_MS})
  local sums = {
    state == 'succeeded' and 1 or 0, state == 'failed' and 1 or 0,
    state == 'cancelled' and 1 or 0, state == 'expired' and 1 or 0,
    usage.prompt_tokens, usage.prompt_tokens_details.cached_tokens, usage.completion_tokens, usage.base_calls or 0, ms
  }
  local key = '${USAGE_PREFIX}' .. tenant .. ':' .. day
  local before = redis.call('HGET', key, name)
  if not before and redis.call('HLEN', key) >= ${LIMITS.usageEntriesMax} then
    name = '${OTHERS}\\n${OTHERS}'
    before = redis.call('HGET', key, name)
  end
  if before then
    -- A newer release may have more sums.
    for i, sum in ipairs(cjson.decode(before)) do sums[i] = (sums[i] or 0) + sum end
  end
  redis.call('HSET', key, name, cjson.encode(sums))
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
