/**
 * Shards: several Redis servers (or clusters) among which the tenants are divided, because one server runs commands on one core. All that
 * belongs to a tenant is on one shard: keys, jobs and their queue, limits, files, batches, webhooks. API keys and tickets contain the
 * number of the shard (keys/secrets.ts), so a request reaches its shard without a lookup. Workers take jobs from all shards and report
 * to each what they serve.
 */
import type { RedisClient } from "./client.ts";
import { API_KEYS_KEY, SHARD_KEY } from "./keys.ts";

const FIELD = "number";

/** The number that a Redis has got. One with API keys and no number is 0. Null: it may become any. */
async function knownNumber(redis: RedisClient): Promise<number | null> {
  const [stored, hasKeys] = await Promise.all([
    redis.hget(SHARD_KEY, FIELD),
    redis.exists(API_KEYS_KEY),
  ]);
  if (stored !== null) return Number(stored);
  return hasKeys === 1 ? 0 : null;
}

/** The number of a Redis, from 0; 0 for one that never was a shard among several. */
export async function shardNumber(redis: RedisClient): Promise<number> {
  return (await knownNumber(redis)) ?? 0;
}

function refusalOf(number: number | null, place: number, count: number): string | null {
  if (number === null || number === place) return null;
  if (count === 1) {
    return `REDIS_URL leads to the Redis that was URL ${number + 1} of several: give them all, in the same order`;
  }
  return (
    `URL ${place + 1} of REDIS_URL leads to the Redis that was URL ${number + 1}: the order must not change. ` +
    `If that Redis has no data, this makes it new: HDEL ${SHARD_KEY} ${FIELD}`
  );
}

/**
 * Whether a Redis may have this place among the URLs. It changes nothing.
 * @param place from 0
 * @param count of URLs
 * @returns why it may not; null if it may
 */
export async function shardRefusal(
  redis: RedisClient,
  place: number,
  count: number,
): Promise<string | null> {
  return refusalOf(await knownNumber(redis), place, count);
}

/**
 * The same, and gives a new Redis its number. Then its place among the URLs must not change: the keys of its tenants contain it. The first
 * place needs no number, so a Redis that was alone can become one of several.
 * @param readyShards resolves with the Redis of all places. It is called only if a new Redis gets a number: a wrong list must change none
 */
export async function checkShard(
  redis: RedisClient,
  place: number,
  count: number,
  readyShards: () => Promise<readonly RedisClient[]>,
): Promise<string | null> {
  // Read first: a Redis that is full would refuse to write.
  const number = await knownNumber(redis);
  if (number !== null || place === 0) return refusalOf(number, place, count);
  const all = await readyShards();
  const refusals = await Promise.all(all.map((each, i) => shardRefusal(each, i, count)));
  const refusal = refusals.find((each) => each !== null);
  if (refusal !== undefined) return refusal;
  await redis.hsetnx(SHARD_KEY, FIELD, String(place));
  return shardRefusal(redis, place, count);
}
