/** The shards of an installation (shared/redis/shards.ts) for commands that use Redis directly. */
import type { Redis } from "ioredis";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { API_KEYS_KEY } from "../../shared/redis/keys.ts";
import { checkShard, shardNumber } from "../../shared/redis/shards.ts";
import { shardUrls } from "../../shared/redis/url.ts";
import { connectRedis } from "../stack/redis.ts";
import { UserError } from "../stack/user-error.ts";

export interface Shard {
  readonly number: number;
  readonly redis: Redis;
  readonly keys: KeyRegistry;
}

/**
 * @param urls as in REDIS_URL; the URL of one shard alone leads to that shard
 * @throws UserError if a Redis does not answer, or has another place among the URLs
 */
export async function connectShards(urls: string): Promise<Shard[]> {
  const all = shardUrls(urls);
  const connected = await Promise.allSettled(all.map((url) => connectRedis(url)));
  const clients = connected.flatMap((result) =>
    result.status === "fulfilled" ? result.value : [],
  );
  try {
    for (const result of connected) if (result.status === "rejected") throw result.reason;
    return await Promise.all(clients.map((redis, place) => openShard(redis, place, clients)));
  } catch (error) {
    for (const redis of clients) redis.disconnect();
    throw error;
  }
}

async function openShard(redis: Redis, place: number, all: readonly Redis[]): Promise<Shard> {
  if (all.length === 1) {
    const number = await shardNumber(redis);
    return { number, redis, keys: new KeyRegistry(redis, number) };
  }
  const refusal = await checkShard(redis, place, all.length, async () => all);
  if (refusal !== null) throw new UserError(refusal);
  return { number: place, redis, keys: new KeyRegistry(redis, place) };
}

/** The shard that has an API key; null if none has. */
export async function shardWithKey(shards: readonly Shard[], id: string): Promise<Shard | null> {
  for (const shard of shards) if ((await shard.keys.get(id)) !== null) return shard;
  return null;
}

/** The shard that has a tenant; null if none has. */
export async function shardWithTenant(
  shards: readonly Shard[],
  tenant: string,
): Promise<Shard | null> {
  for (const shard of shards) if ((await shard.keys.webhookSecret(tenant)) !== null) return shard;
  return null;
}

/** The shard for a new tenant: the one with the fewest API keys. */
export async function emptiestShard(shards: readonly Shard[]): Promise<Shard> {
  const counts = await Promise.all(shards.map(({ redis }) => redis.scard(API_KEYS_KEY)));
  return shards[counts.indexOf(Math.min(...counts))]!;
}
