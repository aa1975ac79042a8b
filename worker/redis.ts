/** Connections to Redis. */
import { Redis } from "ioredis";
import type { Logger } from "pino";
import { redisOptions } from "../shared/redis-url.ts";

/** A connection that waits out an outage instead of failing its commands, as BullMQ's workers want it. */
export function connect(url: string, log: Logger): Redis {
  const redis = new Redis({
    ...redisOptions(url),
    maxRetriesPerRequest: null,
    enableReadyCheck: true,
    // A master that hangs is left when the Sentinels have named another.
    failoverDetector: true,
  });
  redis.on("error", (error) => log.warn({ reason: error.message }, "redis connection"));
  return redis;
}

/** Until a queue is asked again that could not give a job: Redis may be full. */
export const RETRY_MS = 1_000;
