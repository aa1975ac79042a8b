/**
 * Lua scripts as functions. Redis runs a script as one step: no other command runs in between.
 * Scripts are TypeScript strings, not .lua files, because the edge's bundle contains no other files, and because parts that
 * several scripts share are inserted as strings.
 */
import { sha1Hex } from "../ids.ts";
import type { RedisClient } from "./client.ts";

/** Runs the script. The Lua text reads `keys` as KEYS and `args` as ARGV. */
export type Script = (
  redis: RedisClient,
  keys: readonly string[],
  args?: readonly (string | number)[],
) => Promise<unknown>;

/**
 * Defines a script once per process: its SHA-1 is computed with the first call and sent with every call. The text is sent
 * only when the server does not have the script: when it is new, after a restart, a failover or SCRIPT FLUSH.
 */
export function defineScript(lua: string): Script {
  let sha1: string | undefined;
  return async (redis, keys, args = []) => {
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
