/**
 * A request that is refused still costs the work of checking it. So it counts as one request against the limit of its API key and
 * those of the keys that it is within: otherwise refused requests would be a way around them. It counts also while Redis is full.
 */
import { keyLimit, type LimitPool } from "./admission.ts";
import { WRITE_WHEN_FULL_LUA } from "./event-log.ts";
import { RATES_TTL_MS } from "./submit-script.ts";
import { LEASE_LUA } from "../queue/lease-lua.ts";
import { DUE_KEY, KEY_RATES_PREFIX } from "../redis/keys.ts";
import type { RedisClient } from "../redis/client.ts";
import { defineScript } from "../redis/script.ts";

/** KEYS: due jobs, then rates of each pool. ARGV: requests per minute of each. Returns ms until each allows a request; 0 for now. */
const chargeRequest = defineScript(`
local due = KEYS[1]
${LEASE_LUA}
${WRITE_WHEN_FULL_LUA}
local nowMs = redisNowMs()
local waits = {}
for i, limit in ipairs(ARGV) do
  local rates = KEYS[i + 1]
  limit = tonumber(limit)
  local stored = redis.call('HMGET', rates, 'requests', 'requestsAtMs')
  local left = limit
  if stored[1] then
    left = math.min(limit, stored[1] + limit * math.max(0, nowMs - stored[2]) / 60000)
  end
  left = math.max(0, left - 1)
  redis.call('HSET', rates, 'requests', left, 'requestsAtMs', nowMs)
  redis.call('PEXPIRE', rates, ${RATES_TTL_MS})
  waits[i] = math.ceil(math.max(0, 1 - left) * 60000 / limit)
end
return waits
`);

/**
 * Counts a refused request.
 * @param pools that limit requests
 * @returns milliseconds until each pool allows another request; 0 for now
 */
export async function chargeRefusal(
  redis: RedisClient,
  pools: readonly LimitPool[],
): Promise<number[]> {
  const keys = [DUE_KEY, ...pools.map(({ id }) => KEY_RATES_PREFIX + id)];
  const args = pools.map(({ limits }) => keyLimit(limits, "requests") ?? 0);
  return (await chargeRequest(redis, keys, args)) as number[];
}
