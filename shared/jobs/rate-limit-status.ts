/** The rest of an API key's limits. Reading it counts towards none of them. */
import { keyLimit, type LimitName, type LimitPool } from "./admission.ts";
import { LEASE_LUA } from "../queue/lease-lua.ts";
import type { RedisClient } from "../redis/client.ts";
import { KEY_JOBS_PREFIX, KEY_RATES_PREFIX } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";

/**
 * KEYS: rates and unended jobs of each pool. ARGV: requests and tokens per minute of each, 0 for no limit.
 * Returns requests and tokens that are left, and unended jobs, of each.
 */
const readLimits = defineScript(`
${LEASE_LUA}
local nowMs, reply = redisNowMs(), {}
for i = 1, #KEYS, 2 do
  for k, name in ipairs({'requests', 'tokens'}) do
    local limit, stored = tonumber(ARGV[i + k - 1]), redis.call('HMGET', KEYS[i], name, name .. 'AtMs')
    local left = limit
    if stored[1] then left = math.min(limit, stored[1] + limit * math.max(0, nowMs - stored[2]) / 60000) end
    reply[#reply + 1] = math.floor(math.max(0, left))
  end
  reply[#reply + 1] = redis.call('SCARD', KEYS[i + 1])
end
return reply
`);

/** A limit and what is left of it: of the key's own, or of a key that it is within, whichever has less. */
export interface LimitStatus {
  readonly limit: number;
  readonly remaining: number;
}

/** @param pools the API key, then the limited keys that it is within. @returns null for no limit of this name */
export async function rateLimitStatus(
  redis: RedisClient,
  pools: readonly LimitPool[],
): Promise<Record<LimitName, LimitStatus | null>> {
  const keys = pools.flatMap(({ id }) => [KEY_RATES_PREFIX + id, KEY_JOBS_PREFIX + id]);
  const args = pools.flatMap(({ limits }) => [
    keyLimit(limits, "requests") ?? 0,
    keyLimit(limits, "tokens") ?? 0,
  ]);
  const reply = (await readLimits(redis, keys, args)) as number[];
  const statusOf = (name: LimitName, place: number): LimitStatus | null => {
    const all = pools.flatMap(({ limits }, i) => {
      const limit = keyLimit(limits, name);
      const value = reply[3 * i + place]!;
      if (limit === null) return [];
      return [{ limit, remaining: name === "jobs" ? Math.max(0, limit - value) : value }];
    });
    return all.toSorted((a, b) => a.remaining - b.remaining)[0] ?? null;
  };
  return {
    requests: statusOf("requests", 0),
    tokens: statusOf("tokens", 1),
    jobs: statusOf("jobs", 2),
  };
}
