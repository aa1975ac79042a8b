/** Whether a Redis server can hold trimtab's data: its version, its mode and its eviction policy. */
import type { RedisClient } from "./client.ts";
import { isClusterUrl } from "./cluster.ts";
import { databaseOf } from "./url.ts";

/** The oldest version that knows all commands in use. Forks, such as Valkey, report the version that they are compatible with. */
const VERSION_MIN = [6, 2] as const;
const NO_EVICTION = "noeviction";

export interface ServerCheck {
  /** Why the server cannot be used; null if it can. */
  readonly refusal: string | null;
  /** Why it may lose data; null if it does not. */
  readonly warning: string | null;
}

/** Nothing is known against the server. */
const UNCHECKED: ServerCheck = { refusal: null, warning: null };

/** Checks a server that is reached with a URL. One that does not permit INFO counts as fine. @throws an error of the connection */
export async function checkServer(redis: RedisClient, url: string): Promise<ServerCheck> {
  const refusal = await databaseRefusal(redis, databaseOf(url));
  if (refusal !== null) return { refusal, warning: null };
  try {
    return readInfo(await redis.info(), url);
  } catch (error) {
    if (error instanceof Error && /^NOPERM|^ERR unknown command/.test(error.message))
      return UNCHECKED;
    throw error;
  }
}

/** ioredis goes on with database 0 if the server lacks the one of the URL. */
async function databaseRefusal(redis: RedisClient, database: number): Promise<string | null> {
  try {
    if (database !== 0) await redis.select(database);
    return null;
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith("ERR DB index"))) throw error;
    return `REDIS_URL names database ${database}, which this Redis does not have`;
  }
}

/** @param info the reply of INFO */
export function readInfo(info: string, url: string): ServerCheck {
  const fields = new Map(
    info.split(/\r?\n/).map((line) => line.split(/:(.*)/, 2) as [string, string]),
  );
  return { refusal: refusalOf(fields, url), warning: warningOf(fields) };
}

function refusalOf(fields: ReadonlyMap<string, string>, url: string): string | null {
  const version = fields.get("redis_version");
  const [major = 0, minor = 0] = (version ?? "").split(".").map(Number);
  const [majorMin, minorMin] = VERSION_MIN;
  if (version !== undefined && (major < majorMin || (major === majorMin && minor < minorMin))) {
    return `Redis ${version} is too old: version ${VERSION_MIN.join(".")} or newer is needed`;
  }
  if (fields.get("cluster_enabled") === "1" && !isClusterUrl(url)) {
    return "Redis is in cluster mode: REDIS_URL must begin with redis+cluster:// or rediss+cluster://";
  }
  return null;
}

function warningOf(fields: ReadonlyMap<string, string>): string | null {
  const policy = fields.get("maxmemory_policy");
  if (policy === undefined || policy === NO_EVICTION) return null;
  return `Redis may delete jobs when its memory is full: its maxmemory-policy is ${policy}; set ${NO_EVICTION}`;
}
