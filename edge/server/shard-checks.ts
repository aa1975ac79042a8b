/** Checks of the Redis servers that the self-hosted edge is connected to: at its start, and after each new connection. */
import type { EventEmitter } from "node:events";
import { setTimeout } from "node:timers/promises";
import type { ServerCheck } from "../../shared/redis/server-check.ts";
import type { Log } from "../runtime/log.ts";

/** The pause between two checks of a server that answers none, loads its data or takes no writes. */
const CHECK_PAUSE_MS = 1_000;

/** Questions to the Redis of one shard. They throw while it does not answer. */
export interface ShardQuestions {
  /** Whether it can hold the data. */
  readonly check: () => Promise<ServerCheck>;
  /** Resolves if it takes writes, as `/readyz` asks. */
  readonly requireWritable: () => Promise<void>;
}

export class ShardChecks {
  readonly #log: Log;
  readonly #exit: (refusal: string) => void;
  /** Whether some shard was usable. */
  #isServing = false;

  /** @param exit ends the process */
  constructor(log: Log, exit: (refusal: string) => void) {
    this.#log = log;
    this.#exit = exit;
  }

  /**
   * Resolves when a server that can hold the data takes writes. A server that cannot hold them ends the process, unless another one was
   * usable before, or this one did not answer at first and those of other shards serve requests by now: then it is only logged. A failover
   * may lead to another server, so each new connection is checked.
   * @param redis its event `ready` reports a new connection
   * @param shard for the log; null if there is one only
   */
  untilUsable(
    redis: Pick<EventEmitter, "on">,
    { check, requireWritable }: ShardQuestions,
    shard: number | null,
  ): Promise<void> {
    const usable = Promise.withResolvers<void>();
    const details = shard === null ? {} : { details: { shard } };
    let isUsable = false;
    let wasAway = false;
    let connection = new AbortController();
    const notYet = (error: unknown) => {
      if (isUsable || wasAway) return;
      wasAway = true;
      const event = "Redis does not answer or takes no writes: the edge is not ready";
      this.#log({ event, level: "warn", error, ...details });
    };
    /** Asks until there is an answer; null if the next connection is there before, which is checked instead. */
    const answerOf = async <T>(replaced: AbortSignal, ask: () => Promise<T>): Promise<T | null> => {
      while (!replaced.aborted) {
        try {
          return await ask();
        } catch (error) {
          notYet(error);
        }
        await setTimeout(CHECK_PAUSE_MS);
      }
      return null;
    };
    const onConnection = async () => {
      connection.abort();
      connection = new AbortController();
      const { signal } = connection;
      const result = await answerOf(signal, check);
      if (result === null) return;
      const { refusal, warning } = result;
      if (refusal !== null) {
        if (!isUsable && !(wasAway && this.#isServing)) return this.#exit(refusal);
        this.#log({ event: refusal, ...details });
      }
      if (warning !== null) this.#log({ event: warning, level: "warn", ...details });
      if (isUsable || refusal !== null) return;
      isUsable = (await answerOf(signal, () => requireWritable().then(() => true))) ?? false;
      if (!isUsable) return;
      this.#isServing = true;
      usable.resolve();
    };
    redis.on("ready", () => void onConnection()).on("error", notYet);
    return usable.promise;
  }
}
