/** Finds a Redis and creates API keys for `npm run demo` and `npm run dev`. */
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { shardUrls } from "../../shared/redis/url.ts";
import type { Child } from "../stack/process.ts";
import { connectRedis, startRedis, withoutPassword } from "../stack/redis.ts";
import { UserError } from "../stack/user-error.ts";
import { printLabelled } from "./terminal.ts";

/**
 * Finds the Redis at REDIS_URL, or starts a new server if that is not set; `child` is then the server's process.
 * @throws UserError if the Redis does not answer, several are given, or no server can be started
 */
export async function redisForCommand(): Promise<{ redisUrl: string; child: Child | null }> {
  const url = process.env["REDIS_URL"];
  if (url !== undefined && url !== "") {
    const [redisUrl, ...others] = shardUrls(url) as [string, ...string[]];
    if (others.length > 0) {
      throw new UserError("REDIS_URL: this command works with one Redis; give it one URL");
    }
    (await connectRedis(redisUrl)).disconnect();
    printLabelled("redis", `${withoutPassword(url)} (REDIS_URL)`);
    return { redisUrl, child: null };
  }
  const server = await startRedis();
  printLabelled("redis", `${server.url}, deleted with its data at the end`);
  return { redisUrl: server.url, child: server.child };
}

export interface TemporaryKeys {
  readonly apiKey: string;
  /** A key for `/admin`; null if it was not asked for. */
  readonly operatorKey: string | null;
  readonly webhookSecret: string;
  /** Must be called at the end, because the Redis may outlive the command. Further calls do nothing. */
  readonly revoke: () => Promise<void>;
}

/**
 * Creates an API key, and a key of the operator.
 * @param name of the keys and of their tenant
 * @param ownsRedis whether the Redis ends with the command. Otherwise there is no operator's key: it would be over all tenants.
 */
export async function createTemporaryKeys(
  redisUrl: string,
  name: string,
  ownsRedis: boolean,
): Promise<TemporaryKeys> {
  const redis = await connectRedis(redisUrl);
  const keys = new KeyRegistry(redis);
  const { id, key, tenant } = await keys.create(name, name);
  const operator = ownsRedis
    ? await keys.create(`${name}-operator`, name, { scopes: ["operator"], limits: {} })
    : null;
  let isRevoked = false;
  return {
    apiKey: key,
    operatorKey: operator?.key ?? null,
    webhookSecret: (await keys.webhookSecret(tenant)) ?? "",
    revoke: async () => {
      if (isRevoked) return;
      isRevoked = true;
      await keys.revoke(id).catch(() => {});
      redis.disconnect();
    },
  };
}
