/**
 * The data that the release before this one wrote to Redis: jobs that wait and one that ended, an open batch with its file, an API key,
 * an endpoint and a pending delivery, all of the tenant "acme". The models of its jobs are those of the demo; its times lie in
 * the future, so that nothing has expired.
 * previous.json was written by the code of commit 39c2bdf: every key with its type and value. Replace it with each release.
 */
import type { Redis } from "ioredis";
import stored from "./previous.json" with { type: "json" };

/** The id of its API key. */
export const PREVIOUS_KEY_ID = "key_CJ1g0rc3OLJpk18OsRIC1GZP";

type Stored =
  | { readonly type: "string"; readonly value: string }
  | { readonly type: "hash"; readonly value: Readonly<Record<string, string>> }
  | { readonly type: "set"; readonly value: readonly string[] }
  | { readonly type: "list"; readonly value: readonly string[] }
  /** Member, score, ... */
  | { readonly type: "zset"; readonly value: readonly string[] }
  | { readonly type: "stream"; readonly value: readonly Entry[] };
/** Id, and field, value, ... */
type Entry = readonly [id: string, fields: readonly string[]];

export async function restorePreviousRelease(redis: Redis): Promise<void> {
  for (const [key, entry] of Object.entries(stored as unknown as Record<string, Stored>)) {
    if (entry.type === "string") await redis.set(key, entry.value);
    else if (entry.type === "hash") await redis.hset(key, entry.value);
    else if (entry.type === "set") await redis.sadd(key, ...entry.value);
    else if (entry.type === "list") await redis.rpush(key, ...entry.value);
    else if (entry.type === "zset") await redis.zadd(key, ...entry.value.toReversed());
    else await restoreStream(redis, key, entry.value);
  }
}

async function restoreStream(redis: Redis, key: string, entries: readonly Entry[]): Promise<void> {
  for (const [id, fields] of entries) await redis.xadd(key, id, ...fields);
}
