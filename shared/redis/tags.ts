/**
 * Hash tags: one cluster can hold several shards (shards.ts), each under a tag of its own and so in a slot of its own. The names of keys.ts
 * have the first tag; here they get another one. The tag of a shard is part of its URL (url.ts).
 */
import type { RedisClient } from "./client.ts";
import { TAG } from "./keys.ts";

/**
 * The tags of the shards of a cluster, by number. They must never change. Their slots are chosen so that of n nodes with equal parts of the
 * slots, in the order of the slots, each holds one of the first n shards; two, three or four nodes share any count of shards evenly.
 */
export const TAGS = [TAG, ...[98, 55, 52, 28, 35, 34, 10].map((n) => `{trimtab-${n}}`)];

/** A name of keys.ts under another tag. @throws Error for another name, which would become the name of another key */
export function withTag(name: string, tag: string): string {
  if (!name.startsWith(TAG)) throw new Error(`The name ${name} does not begin with ${TAG}`);
  return tag + name.slice(TAG.length);
}

/** The name of keys.ts that a name under any tag has there. */
export const withoutTag = (name: string) => TAG + name.slice(name.indexOf("}") + 1);

/** The tag of the shard to which a client is connected: an option of ioredis clients that url.ts makes. */
export function tagOf({ options }: Pick<RedisClient, "options">): string {
  return options !== undefined && "tag" in options ? String(options.tag) : TAG;
}

/** Commands of a RedisClient that have no key. All others but those of scripts have one, which comes first. */
const WITHOUT_KEY = new Set<PropertyKey>(["info", "select", "time"]);
const OF_SCRIPTS = new Set<PropertyKey>(["eval", "evalsha"]);

type Args = (string | number)[];

/** The commands of a client, whose keys have the names of keys.ts: they get the tag of its shard. */
export function commandsOf(redis: RedisClient): RedisClient {
  const tag = tagOf(redis);
  if (tag === TAG) return redis;
  const tagKeys = (keys: Args) => keys.map((key) => withTag(String(key), tag));
  return new Proxy(redis, {
    get(target, name) {
      const member: unknown = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      const command = (args: Args) => Reflect.apply(member, target, args) as unknown;
      if (WITHOUT_KEY.has(name)) return (...args: Args) => command(args);
      if (!OF_SCRIPTS.has(name)) {
        return (key: string, ...args: Args) => command([withTag(key, tag), ...args]);
      }
      return (script: string, count: number, ...args: Args) =>
        command([script, count, ...tagKeys(args.slice(0, count)), ...args.slice(count)]);
    },
  });
}
