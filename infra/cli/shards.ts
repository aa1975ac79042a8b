/** The shards of an installation (shared/redis/shards.ts) for commands that use Redis directly. */
import type { Redis } from "ioredis";
import type { RedisClient } from "../../shared/redis/client.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { API_KEYS_KEY } from "../../shared/redis/keys.ts";
import { checkShard, shardNumber } from "../../shared/redis/shards.ts";
import { commandsOf } from "../../shared/redis/tags.ts";
import { shardUrls } from "../../shared/redis/url.ts";
import { connectRedis } from "../stack/redis.ts";
import { UserError } from "../stack/user-error.ts";

export interface Shard {
  readonly number: number;
  readonly redis: RedisClient;
  readonly keys: KeyRegistry;
  readonly close: () => void;
}

/**
 * @param urls as in REDIS_URL; the URL of one shard alone leads to that shard (of a cluster: `?tag=n`)
 * @throws UserError if a Redis does not answer, or has another place among the URLs
 */
export async function connectShards(urls: string): Promise<Shard[]> {
  const all = shardUrls(urls);
  const connected = await Promise.allSettled(all.map((url) => connectRedis(url)));
  const clients = connected.flatMap((result) =>
    result.status === "fulfilled" ? result.value : [],
  );
  const commands = clients.map(commandsOf);
  try {
    for (const result of connected) if (result.status === "rejected") throw result.reason;
    const open = (redis: Redis, place: number) =>
      openShard(place, commands, () => redis.disconnect());
    return await Promise.all(clients.map(open));
  } catch (error) {
    for (const redis of clients) redis.disconnect();
    throw error;
  }
}

async function openShard(
  place: number,
  all: readonly RedisClient[],
  close: () => void,
): Promise<Shard> {
  const redis = all[place]!;
  if (all.length === 1) {
    const number = await shardNumber(redis);
    return { number, redis, keys: new KeyRegistry(redis, number), close };
  }
  const refusal = await checkShard(redis, place, all.length, async () => all);
  if (refusal !== null) throw new UserError(refusal);
  return { number: place, redis, keys: new KeyRegistry(redis, place), close };
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
