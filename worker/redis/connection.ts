/**
 * The worker's connections to Redis. A connection can die without a
 * sign: a firewall forgets it, or an address moves. So each one is pinged, and replaced when Redis sends nothing.
 * This folder knows no keys and no data: those are in shared/redis/ and in the stores of shared/.
 */
import { Redis } from "ioredis";
import type { Logger } from "pino";
import { redisOptions, type RedisTls } from "../../shared/redis/url.ts";

const PING_INTERVAL_MS = 1_000;
/** Redis may be busy with a slow command or a fork for a second or two; a connection that is silent for longer is replaced. */
const SILENT_MAX_MS = 5_000;
/** Time for a TCP connection to be made; ioredis allows 10 s. */
const CONNECT_MS = 5_000;
/** An idle connection is probed by the kernel after this time, then each second, ten times. For those without PINGs. */
const KEEP_ALIVE_MS = 10_000;

/** ioredis says this without a failure too: when it has asked the last Sentinel of the list before, and begins with the first. */
const SENTINELS_AGAIN = /^All sentinels are unreachable\. Retrying from scratch after \d+ms\.$/;

/** When Redis last sent data on a connection, in the time of `performance.now`. */
const heardAt = new WeakMap<Redis, number>();

/**
 * Connects, and watches the connection. During an outage commands wait instead of failing, as BullMQ's workers require. Commands
 * without a reply are sent again on the next connection, so a script must not change more when it runs twice.
 * ioredis' `duplicate()` gives a connection that is not watched. BullMQ watches those on which it blocks.
 */
export function connectRedis(url: string, log: Logger, tls: RedisTls = {}): Redis {
  const redis = new Redis(
    redisOptions(url, tls, {
      maxRetriesPerRequest: null,
      enableReadyCheck: true,
      connectTimeout: CONNECT_MS,
      keepAlive: KEEP_ALIVE_MS,
    }),
  );
  watch(redis, log);
  return redis;
}

/** A second connection with the same options, for example for subscriptions. It is watched too. */
export function duplicateConnection(redis: Redis, log: Logger): Redis {
  const second = redis.duplicate();
  watch(second, log);
  return second;
}

/**
 * Resolves when the connection is ready. Before that, ioredis sends the commands that Redis answers while it loads its data, such
 * as INFO and TIME, and forgets them if the connection breaks: they would never settle.
 */
export async function whenReady(redis: Redis): Promise<void> {
  if (redis.status !== "ready") await new Promise<void>((resolve) => redis.once("ready", resolve));
}

/** Whether a connection made with `connectRedis` is open, and Redis answered on it within the last five seconds. */
export function isAnswering(redis: Redis): boolean {
  return redis.status === "ready" && silentMs(redis) < SILENT_MAX_MS;
}

const silentMs = (redis: Redis) => performance.now() - (heardAt.get(redis) ?? -Infinity);

function watch(redis: Redis, log: Logger): void {
  redis.on("error", ({ message }) => {
    if (!SENTINELS_AGAIN.test(message)) log.warn({ reason: message }, "Redis connection error");
  });
  const heard = () => void heardAt.set(redis, performance.now());
  redis.on("connect", () => {
    heard();
    // For each command that is sent again because the server has changed, ioredis adds a listener.
    redis.stream.setMaxListeners(0);
    redis.stream.on("data", heard);
    joinWrites(redis.stream);
  });
  const replaceIfSilent = () => {
    const isConnected = redis.status === "connect" || redis.status === "ready";
    if (!isConnected || silentMs(redis) < SILENT_MAX_MS) return;
    log.warn({ ms: Math.round(silentMs(redis)) }, "Redis is silent: the connection is replaced");
    redis.stream.destroy();
  };
  const timer = setInterval(() => {
    // A reply that this process was too busy to read is read before the immediate runs.
    setImmediate(replaceIfSilent);
    // A PING is not sent again on the next connection for each second of an outage: only open connections get one.
    if (redis.status === "ready") redis.ping().catch(() => {});
  }, PING_INTERVAL_MS);
  timer.unref();
  redis.on("end", () => clearInterval(timer));
}

/**
 * Commands of one turn of the event loop leave together. Sending costs this process more than any other part of a token, and a step of
 * the engine logs a token of every job.
 */
function joinWrites(stream: Redis["stream"]): void {
  const write = stream.write.bind(stream) as (...args: unknown[]) => boolean;
  let isHeld = false;
  stream.write = (...args: unknown[]) => {
    if (!isHeld) {
      isHeld = true;
      stream.cork();
      process.nextTick(() => {
        isHeld = false;
        stream.uncork();
      });
    }
    return write(...args);
  };
}
