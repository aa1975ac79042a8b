/**
 * Shards: several Redis servers (or clusters) among which the tenants are divided, because one server runs commands on one core. All that
 * belongs to a tenant is on one shard: keys, jobs and their queue, limits, files, batches, webhooks. API keys and tickets contain the
 * number of the shard (keys/secrets.ts), so a request reaches its shard without a lookup. Workers take jobs from all shards and report
 * to each what they serve.
 */
import type { RedisClient } from "./client.ts";
import { SHARD_KEY } from "./keys.ts";

const FIELD = "number";

/** The number that a Redis has got, from 0; 0 for one that never was a shard among several. */
export async function shardNumber(redis: RedisClient): Promise<number> {
  return Number((await redis.hget(SHARD_KEY, FIELD)) ?? 0);
}

/**
 * Gives a Redis its number, if it has none. Then its place among the URLs must not change: the keys of its tenants contain it.
 * @param shard its place among the URLs, from 0
 * @param count of shards; one Redis alone has no number and is not asked
 * @returns why it cannot be used; null if it can
 */
export async function checkShard(
  redis: RedisClient,
  shard: number,
  count: number,
): Promise<string | null> {
  if (count === 1) return null;
  // Read first: a Redis that is full would refuse to write.
  const known =
    (await redis.hget(SHARD_KEY, FIELD)) ??
    ((await redis.hsetnx(SHARD_KEY, FIELD, String(shard))) === 1
      ? String(shard)
      : await redis.hget(SHARD_KEY, FIELD));
  if (Number(known) === shard) return null;
  return `URL ${shard + 1} of REDIS_URL leads to the Redis that was URL ${Number(known) + 1}: the order must not change`;
}
