/**
 * Lua scripts as functions. Redis runs a script as one step: no other command runs in between.
 * Scripts are TypeScript strings, not .lua files, because the edge's bundle contains no other files, and because parts that
 * several scripts share are inserted as strings.
 */
import { sha1Hex } from "../ids.ts";
import type { RedisClient } from "./client.ts";
import { TAG } from "./keys.ts";

/** Runs the script. The Lua text reads `keys` as KEYS and `args` as ARGV. */
export type Script = (
  redis: RedisClient,
  keys: readonly string[],
  args?: readonly (string | number)[],
) => Promise<unknown>;

/** A name of keys.ts in the text of a script. One that ends with a colon is the beginning of names. */
const NAME = new RegExp(`'${TAG}(:[^']*)'`, "g");

/**
 * Defines a script once per process: its SHA-1 is computed with the first call and sent with every call. The text is sent
 * only when the server does not have the script: when it is new, after a restart, a failover or SCRIPT FLUSH.
 *
 * All keys that a caller can name are declared, as a Redis Cluster asks for: the caller gives them as `keys`, and whole names in the text
 * are added here. A script that learns names only while it runs (of a job that it takes from a queue, of a lane that a job's hash names)
 * makes them from their beginning, with the hash tag of its declared keys. So they lie in the same slot, and the same text serves every
 * shard (tags.ts).
 */
export function defineScript(text: string): Script {
  const { lua, fixed } = declareNames(text);
  let sha1: string | undefined;
  return async (redis, ownKeys, args = []) => {
    const keys = [...fixed, ...ownKeys];
    sha1 ??= await sha1Hex(lua);
    try {
      return await redis.evalsha(sha1, keys.length, ...keys, ...args);
    } catch (error) {
      if (!isScriptMissing(error)) throw error;
      return redis.eval(lua, keys.length, ...keys, ...args);
    }
  };
}

const isScriptMissing = (error: unknown) =>
  error instanceof Error && error.message.startsWith("NOSCRIPT");

/** The text in which names are keys of the table FIXED, which are declared before the caller's, or begin with the tag of the keys. */
function declareNames(text: string): { readonly lua: string; readonly fixed: readonly string[] } {
  const fixed: string[] = [];
  const body = text.replace(NAME, (_, name: string) => {
    if (name.endsWith(":")) return `TAG .. '${name}'`;
    if (!fixed.includes(TAG + name)) fixed.push(TAG + name);
    return `FIXED[${fixed.indexOf(TAG + name) + 1}]`;
  });
  if (body.includes(TAG)) {
    throw new Error(
      `A script has a name that is not in the form '${TAG}:…' and would keep its tag`,
    );
  }
  if (body === text) return { lua: text, fixed };
  const split = `{unpack(KEYS, 1, ${fixed.length})}, {unpack(KEYS, ${fixed.length + 1})}`;
  const head = `local TAG, FIXED, KEYS = string.match(KEYS[1], '^{[^}]*}'), ${split}`;
  return { lua: `${head}\n${body}`, fixed };
}
