/**
 * Shards: several Redis servers, clusters, or tags of a cluster (tags.ts), among which the tenants are divided, because one server runs
 * commands on one core. All that belongs to a tenant is on one shard: keys, jobs and their queue, limits, files, batches, webhooks. API keys and tickets contain the
 * number of the shard (keys/secrets.ts), so a request reaches its shard without a lookup. Workers take jobs from all shards and report
 * to each what they serve.
 */
import type { RedisClient } from "./client.ts";
import { API_KEYS_KEY, SHARD_KEY } from "./keys.ts";
import { tagOf, withTag } from "./tags.ts";

const NUMBER = "number";
const COUNT = "count";

/** The place of a Redis among several. */
interface ShardPlace {
  /** One with API keys and no number is 0. Null: it may become any. */
  readonly number: number | null;
  /** The name of the hash under the tag of the shard. */
  readonly key: string;
  /** Of the shards up to the last one that is known to have tenants. */
  readonly count: number;
}

async function knownPlace(redis: RedisClient): Promise<ShardPlace> {
  const [[number, count], hasKeys] = await Promise.all([
    redis.hmget(SHARD_KEY, NUMBER, COUNT),
    redis.exists(API_KEYS_KEY),
  ]);
  return {
    number: number != null ? Number(number) : hasKeys === 1 ? 0 : null,
    key: withTag(SHARD_KEY, tagOf(redis)),
    count: Number(count ?? 1),
  };
}

/** The number of a Redis, from 0; 0 for one that never was a shard among several. */
export async function shardNumber(redis: RedisClient): Promise<number> {
  return (await knownPlace(redis)).number ?? 0;
}

function refusalOf(
  { number, count: countMax, key }: ShardPlace,
  place: number,
  count: number,
): string | null {
  if (number !== null && number !== place) {
    if (count === 1) {
      return `REDIS_URL leads to the Redis that was URL ${number + 1} of several: give them all, in the same order`;
    }
    return (
      `URL ${place + 1} of REDIS_URL leads to the Redis that was URL ${number + 1}: the order must not change. ` +
      `If that Redis has no data, this makes it new: HDEL ${key} ${NUMBER} ${COUNT}`
    );
  }
  if (count >= countMax) return null;
  return (
    `REDIS_URL has ${count} of ${countMax} URLs: give them all, in the same order. ` +
    `To give up the tenants of the others, tell each Redis of the list: HSET ${key} ${COUNT} ${count}`
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
  return refusalOf(await knownPlace(redis), place, count);
}

/**
 * The same, and gives a new Redis its number. Then its place among the URLs must not change: the keys of its tenants contain it. The first
 * place needs no number, so a Redis that was alone can become one of several. All are told how many have tenants, so that a list without
 * one of those is noticed. A Redis that knows its place does not wait for that.
 * @param readyShards resolves with the Redis of all places. It is called only if they are to be told: a wrong list must change none
 */
export async function checkShard(
  redis: RedisClient,
  place: number,
  count: number,
  readyShards: () => Promise<readonly RedisClient[]>,
): Promise<string | null> {
  // Read first: a Redis that is full would refuse to write.
  const known = await knownPlace(redis);
  const refusal = refusalOf(known, place, count);
  if (refusal !== null || known.count === count) return refusal;
  const telling = tellShards(redis, place, count, readyShards);
  if (known.number === null && place !== 0) return telling;
  // The next start tries again.
  telling.catch(() => {});
  return null;
}

async function tellShards(
  redis: RedisClient,
  place: number,
  count: number,
  readyShards: () => Promise<readonly RedisClient[]>,
): Promise<string | null> {
  const all = await readyShards();
  const refusals = await Promise.all(all.map((each, i) => shardRefusal(each, i, count)));
  const refusal = refusals.find((each) => each !== null);
  if (refusal !== undefined) return refusal;
  await tellCount(all);
  if (place !== 0) await redis.hsetnx(SHARD_KEY, NUMBER, String(place));
  return shardRefusal(redis, place, count);
}

/** Tells all shards how many have tenants: from then on, a shorter list is refused. */
export async function tellCount(all: readonly RedisClient[]): Promise<void> {
  const haveTenants = await Promise.all(all.map((redis) => redis.exists(API_KEYS_KEY)));
  const count = haveTenants.lastIndexOf(1) + 1;
  if (count < 2) return;
  await Promise.all(all.map((redis) => redis.hset(SHARD_KEY, { [COUNT]: count })));
}
