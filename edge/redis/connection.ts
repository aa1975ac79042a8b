/** Connections to Redis, and which errors mean that Redis has failed or cannot be reached. */
import { Redis, type Command, type RedisOptions } from "ioredis";
import { AppError } from "../../shared/api/errors.ts";
import { isFailureReply } from "../../shared/redis/failure.ts";
import { IS_ELSEWHERE, reconnectOnError, redisOptions } from "../../shared/redis/url.ts";
import type { Env } from "../runtime/env.ts";
import { keepAlive } from "./keep-alive.ts";

/** Errors of commands that were correct but failed because of Redis or the connection. */
const failures = new WeakSet<Error>();

/** Whether the error came from a Redis that is down, unreachable, too slow, full, or refuses the login. */
export function isRedisFailure(error: unknown): boolean {
  return error instanceof Error && failures.has(error);
}

/** The error that a caller gets for a Redis failure. */
export function queueUnavailable(cause: unknown): AppError {
  const isReply = cause instanceof Error && cause.name === "ReplyError";
  const message = isReply
    ? "The queue refuses requests at the moment; try again"
    : "The queue does not answer; try again";
  return new AppError("queue_unavailable", message, { cause });
}

/** A connection to a server that does not hold the keys now is replaced at most this often. */
const READ_ONLY_MS = 1_000;

/**
 * For commands of requests. If the server has become a replica, or a cluster is between two states, the next connection may lead to the
 * new master: ioredis connects again and repeats the command, which the value 2 asks for. If it does not, commands fail at once, and do
 * not wait for their timeout.
 */
export function replaceReadOnly(): (error: Error) => 2 | false {
  let replacedMs = -Infinity;
  return ({ message }) => {
    const nowMs = performance.now();
    if (!IS_ELSEWHERE.test(message) || nowMs - replacedMs < READ_ONLY_MS) return false;
    replacedMs = nowMs;
    return 2;
  };
}

function remember(error: unknown): void {
  if (!(error instanceof Error)) return;
  if (error.name !== "ReplyError" || isFailureReply(error.message)) failures.add(error);
}

/** A client that remembers the errors of commands that Redis did not execute. */
export class MarkingRedis extends Redis {
  override sendCommand(...args: Parameters<Redis["sendCommand"]>): unknown {
    const command: Command = args[0];
    command.promise.catch(remember);
    return super.sendCommand(...args);
  }
}

/** Connections that streams use: their commands are repeated until their timeout while no server holds the keys. */
const followers = new WeakSet<Redis>();

/**
 * A connection for following logs, as `connect` opens it, which waits while Redis loads its data. It is used only to subscribe and to
 * read.
 */
export function connectToFollow(env: Env): Redis {
  const redis = connect(env, { enableReadyCheck: true });
  useToFollow(redis, env);
  return redis;
}

/** From now on the connection is used only to follow logs: it is replaced when it has died without a sign, and outlives a failover. */
export function useToFollow(redis: Redis, env: Env): void {
  followers.add(redis);
  // Half of the timeout of commands: the rest is for the new connection.
  keepAlive(redis, env.REDIS_TIMEOUT_MS / 2);
}

/**
 * A connection that opens with its first command. If the first connect fails, it is not tried again, except to the other nodes of a
 * cluster's URL. Once the connection was ready, it reconnects for at most `REDIS_TIMEOUT_MS`, so that streams continue after a restart
 * of Redis.
 */
export function connect(
  env: Env,
  options: Pick<RedisOptions, "enableReadyCheck"> = { enableReadyCheck: false },
): Redis {
  const { REDIS_URL, REDIS_TIMEOUT_MS } = env;
  let wasReady = false;
  const replace = replaceReadOnly();
  const redis: MarkingRedis = new MarkingRedis(
    redisOptions(REDIS_URL, env, {
      reconnectOnError: (error) => (followers.has(redis) ? reconnectOnError : replace)(error),
      lazyConnect: true,
      connectTimeout: REDIS_TIMEOUT_MS,
      commandTimeout: REDIS_TIMEOUT_MS,
      maxRetriesPerRequest: null,
      retryStrategy: (times: number) => (wasReady && times * 200 <= REDIS_TIMEOUT_MS ? 200 : null),
      sentinelRetryStrategy: (times: number) => (times * 200 <= REDIS_TIMEOUT_MS ? 200 : null),
      // The check costs a round trip. Without it, commands fail with LOADING while Redis loads its data after a restart.
      ...options,
    }),
  );
  redis.on("ready", () => {
    wasReady = true;
  });
  // Without a listener ioredis logs each error. The commands that fail because of it are rejected anyway.
  redis.on("error", () => {});
  return redis;
}
