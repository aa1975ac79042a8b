/**
 * A connection to Redis that lives as long as its process and that all requests share. It cannot be used in workerd, where a
 * request may not use a socket that another one opened.
 */
import type { Command } from "ioredis";
import { reconnectOnError, redisOptions } from "../../shared/redis/url.ts";
import type { Env } from "../runtime/env.ts";
import { keepAlive } from "./keep-alive.ts";
import { isRedisFailure, MarkingRedis, replaceReadOnly } from "./connection.ts";

const RECONNECT_MS = 100;
const RECONNECT_MS_MAX = 1_000;

/**
 * Does not send a command that its caller has given up. Otherwise a request that was answered with 503 while Redis was down
 * would be executed after the reconnect.
 */
class SharedRedis extends MarkingRedis {
  readonly #rejected = new WeakSet<Command>();
  readonly #sent = new WeakSet<Command>();
  onReply: ((seconds: number, isError: boolean) => void) | undefined;
  #corked: MarkingRedis["stream"] | null = null;

  override sendCommand(...args: Parameters<MarkingRedis["sendCommand"]>): unknown {
    const command: Command = args[0];
    if (this.#rejected.has(command)) return command.promise;
    const isRepeated = this.#sent.has(command);
    this.#sent.add(command);
    const startMs = performance.now();
    this.#cork();
    const result = super.sendCommand(...args);
    // After a reconnect a command is sent again.
    if (isRepeated) return result;
    const replied = (isError: boolean) =>
      this.onReply?.((performance.now() - startMs) / 1000, isError);
    command.promise.then(
      () => replied(false),
      (error: unknown) => {
        this.#rejected.add(command);
        replied(isRedisFailure(error));
      },
    );
    return result;
  }

  /** All commands of this turn of the event loop are written at once: each write is a call of the operating system. */
  #cork(): void {
    const stream = this.stream as MarkingRedis["stream"] | undefined;
    if (stream === undefined || stream === this.#corked) return;
    this.#corked = stream;
    stream.cork();
    process.nextTick(() => {
      this.#corked = null;
      stream.uncork();
    });
  }
}

interface SharedOptions {
  /** Longest wait for a reply. */
  readonly commandTimeoutMs: number;
  /** Failed connects in a row after which the commands that wait for a connection fail; null: they wait until their timeout. */
  readonly connectsMax: number | null;
  /**
   * Whether commands wait until their timeout while Redis loads its data after a restart, or its keys move to another server; otherwise
   * they fail soon.
   */
  readonly waitsForServer: boolean;
  /** Called after each command. */
  readonly onReply?: (seconds: number, isError: boolean) => void;
}

/**
 * Connects at once, and again whenever the connection is lost. A connection that does not reply within `REDIS_TIMEOUT_MS`
 * is replaced.
 */
export function connectShared(
  env: Env,
  { commandTimeoutMs, connectsMax, waitsForServer, onReply }: SharedOptions,
): MarkingRedis {
  const retryMs = (times: number) => Math.min(times * RECONNECT_MS, RECONNECT_MS_MAX);
  const redis = new SharedRedis(
    redisOptions(env.REDIS_URL, env, {
      reconnectOnError: waitsForServer ? reconnectOnError : replaceReadOnly(),
      connectTimeout: env.REDIS_TIMEOUT_MS,
      commandTimeout: commandTimeoutMs,
      maxRetriesPerRequest: connectsMax,
      retryStrategy: retryMs,
      sentinelRetryStrategy: retryMs,
      enableReadyCheck: waitsForServer,
    }),
  );
  redis.onReply = onReply;
  // For each command that is sent again because the server has changed, ioredis adds a listener.
  redis.on("connect", () => void redis.stream.setMaxListeners(0));
  // Without a listener ioredis logs each error. The commands that fail because of it are rejected anyway.
  redis.on("error", () => {});
  keepAlive(redis, env.REDIS_TIMEOUT_MS);
  return redis;
}
