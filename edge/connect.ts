/** The edge's connections to Redis. */
import { Redis } from "ioredis";
import { redisOptions } from "../shared/redis-url.ts";
import type { Env } from "./env.ts";

/**
 * A connection that opens on first use and never outlives its use by reconnecting: a lost one comes back only while it is
 * in use (a stream outlives a restart of Redis), and a first one that fails, fails at once.
 */
export function connect({ REDIS_URL, REDIS_TIMEOUT_MS }: Env): Redis {
  let wasReady = false;
  const redis = new Redis({
    ...redisOptions(REDIS_URL),
    lazyConnect: true,
    connectTimeout: REDIS_TIMEOUT_MS,
    commandTimeout: REDIS_TIMEOUT_MS,
    maxRetriesPerRequest: null,
    retryStrategy: (times) => (wasReady && times * 200 <= REDIS_TIMEOUT_MS ? 200 : null),
    sentinelRetryStrategy: (times) => (times * 200 <= REDIS_TIMEOUT_MS ? 200 : null),
    // Each of these would cost a round trip, and a Redis that is still loading says so to any command.
    enableReadyCheck: false,
    disableClientInfo: true,
  });
  redis.on("ready", () => {
    wasReady = true;
  });
  // Without a listener ioredis logs each error; the commands that fail for it reject anyway.
  redis.on("error", () => {});
  return redis;
}
