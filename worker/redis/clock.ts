/** Sets this process's clock by Redis, and watches how far the machine's own clock is off. */
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { RedisClock } from "../../shared/redis/clock.ts";
import { whenReady } from "./connection.ts";
import { repeat } from "./repeat.ts";

const SYNC_INTERVAL_MS = 2_000;
/**
 * A worker on a machine whose clock is off by more than this takes no work: BullMQ compares its
 * delays with that clock, and the times in logs and traces would mislead.
 */
const AHEAD_MAX_MS = 5_000;

export class WatchedClock extends RedisClock {
  /** A sentence on what is wrong with the machine's clock; null if it is right. */
  get problem(): string | null {
    const { aheadMs } = this;
    if (Math.abs(aheadMs) <= AHEAD_MAX_MS) return null;
    const seconds = Math.round(Math.abs(aheadMs) / 1000);
    return `The machine's clock is ${seconds} s ${aheadMs > 0 ? "ahead of" : "behind"} Redis`;
  }
}

/** A clock that is set by Redis every two seconds. Resolves when it is set for the first time. */
export async function startClock(redis: Redis, log: Logger): Promise<WatchedClock> {
  const clock = new WatchedClock();
  let isReported = false;
  const sync = async () => {
    await whenReady(redis);
    const sentAt = performance.now();
    const [seconds, microseconds] = await redis.time();
    clock.sync(Number(seconds) * 1000 + Number(microseconds) / 1000, sentAt);
    const { problem } = clock;
    if (problem !== null && !isReported)
      log.warn(`${problem}; the worker takes no work until that is right`);
    if (problem === null && isReported) log.info("The machine's clock is right again");
    isReported = problem !== null;
  };
  const { firstSuccess } = repeat(sync, {
    everyMs: SYNC_INTERVAL_MS,
    onError: (error) => log.warn({ err: error }, "Could not read the time of Redis"),
  });
  await firstSuccess;
  return clock;
}
