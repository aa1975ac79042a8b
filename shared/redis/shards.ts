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
  /** Of the shards up to the last one that is known to have had tenants. */
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

/** Reasons against a list of URLs; null for none. */
interface ListProblems {
  /** The Redis has another place. Data would be written to a wrong shard. */
  readonly order: string | null;
  /** The list lacks shards that had tenants. The tenants of the others can be served. */
  readonly length: string | null;
}

const RIGHT: ListProblems = { order: null, length: null };

const refusalOf = ({ order, length }: ListProblems) => order ?? length;

function problemsOf(
  { number, count: countMax, key }: ShardPlace,
  place: number,
  count: number,
): ListProblems {
  if (number !== null && number !== place) {
    const was = `the Redis that was URL ${number + 1}`;
    const order =
      count === 1
        ? `REDIS_URL leads to ${was} of several: give them all, in the same order`
        : `URL ${place + 1} of REDIS_URL leads to ${was}: the order must not change. ` +
          `If that Redis has no data, this makes it new: HDEL ${key} ${NUMBER} ${COUNT}`;
    return { ...RIGHT, order };
  }
  if (count >= countMax) return RIGHT;
  const length =
    `REDIS_URL has ${count} of ${countMax} URLs that had tenants: give them all, in the same order. ` +
    "If the others have none any more, or to give these up: stop all processes with a longer list, " +
    `then tell each Redis of the list: HSET ${key} ${COUNT} ${count}`;
  return { ...RIGHT, length };
}

/** A Redis without a number cannot be the one that had tenants at this place: its data is lost, or the URL is wrong. */
function lossOf({ number, key }: ShardPlace, place: number, countMax: number): string | null {
  if (number !== null || place === 0 || place >= countMax) return null;
  return (
    `URL ${place + 1} of REDIS_URL leads to a Redis without data, but its place had tenants: correct the URL, or restore the data. ` +
    `To give these tenants up, tell that Redis: HSET ${key} ${NUMBER} ${place}`
  );
}

/**
 * Whether a Redis may have this place among the URLs. It changes nothing.
 * @param place from 0
 * @param count of URLs
 */
export async function listProblems(
  redis: RedisClient,
  place: number,
  count: number,
): Promise<ListProblems> {
  return problemsOf(await knownPlace(redis), place, count);
}

/**
 * The same, and gives a new Redis its number. Then its place among the URLs must not change: the keys of its tenants contain it. The first
 * place needs no number, so a Redis that was alone can become one of several. A Redis that knows its place waits for no other.
 * @param readyShards resolves with the Redis of all places
 * @param onWait called if a new Redis waits for them: a wrong list must number none
 * @returns why the Redis may not have this place; null if it may
 */
export async function checkShard(
  redis: RedisClient,
  place: number,
  count: number,
  readyShards: () => Promise<readonly RedisClient[]>,
  onWait: () => void = () => {},
): Promise<string | null> {
  const known = await knownPlace(redis);
  const refusal = refusalOf(problemsOf(known, place, count));
  const isNew = known.number === null && place !== 0;
  if (refusal !== null || (!isNew && known.count === count)) return refusal;
  const checked = checkAll(readyShards);
  if (!isNew) {
    // It is told by the next start.
    checked.catch(() => {});
    return null;
  }
  onWait();
  const refusalOfAll = await checked;
  if (refusalOfAll !== null) return refusalOfAll;
  await redis.hsetnx(SHARD_KEY, NUMBER, String(place));
  return refusalOf(await listProblems(redis, place, count));
}

/** Checks all places, and tells the count if no place is refused. */
async function checkAll(readyShards: () => Promise<readonly RedisClient[]>) {
  const all = await readyShards();
  const known = await Promise.all(all.map(knownPlace));
  const countMax = Math.max(...known.map(({ count }) => count));
  const refusals = known.map(
    (each, i) => refusalOf(problemsOf(each, i, all.length)) ?? lossOf(each, i, countMax),
  );
  const refusal = refusals.find((each) => each !== null) ?? null;
  if (refusal === null) void tellCount(all);
  return refusal;
}

/**
 * Tells the shards how many have tenants: from then on, a shorter list is refused. It is a help against a forgotten URL, so nothing waits
 * for it or fails by it: a shard that is silent or takes no writes is told by the next start. The count never goes down by itself, because
 * a shard without API keys can still have jobs, or be empty until its copy is restored.
 * @returns whether all know it
 */
export async function tellCount(all: readonly RedisClient[]): Promise<boolean> {
  const tenants = await Promise.allSettled(all.map((redis) => redis.exists(API_KEYS_KEY)));
  const count = tenants.findLastIndex((has) => has.status === "fulfilled" && has.value === 1) + 1;
  const told = await Promise.allSettled(
    all.map(async (redis) => {
      if ((await knownPlace(redis)).count < count) await redis.hset(SHARD_KEY, { [COUNT]: count });
    }),
  );
  return [...tenants, ...told].every(({ status }) => status === "fulfilled");
}
