import { Redis } from "ioredis";
import { afterAll, beforeEach, expect, test } from "vitest";
import { startRedis } from "../../../infra/stack/redis.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import {
  API_KEYS_KEY,
  apiKeyKey,
  KEY_HASH_PREFIX,
  tenantKeysKey,
} from "../../../shared/redis/keys.ts";

const server = await startRedis();
const redis = new Redis(server.url);
afterAll(async () => {
  redis.disconnect();
  await server.stop();
});
beforeEach(() => redis.flushall());

/** The same Redis, whose connection is lost after some commands. */
function lostAfter(commands: number): Redis {
  let left = commands;
  return new Proxy(redis, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name);
      if (typeof value !== "function") return value;
      return (...args: unknown[]): unknown => {
        if (left-- <= 0) return Promise.reject(new Error("The connection was lost"));
        return Reflect.apply(value, target, args);
      };
    },
  });
}

test.each([1, 2, 3, 4])(
  "a revocation that is cut off after %d commands leaves nothing when it is sent again",
  async (commands) => {
    const registry = new KeyRegistry(redis);
    const { id, tenant } = await registry.create("key");
    const cut = new KeyRegistry(lostAfter(commands));
    await cut.revoke(id).catch(() => false);
    await registry.revoke(id);
    expect(await redis.exists(apiKeyKey(id), tenantKeysKey(tenant), API_KEYS_KEY)).toBe(0);
    expect(await redis.keys(`${KEY_HASH_PREFIX}*`)).toEqual([]);
  },
);
