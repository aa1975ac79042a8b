/**
 * The time of Redis in a process. The clocks of machines differ, and time decides when jobs expire and whether a receiver
 * accepts a signed webhook. Scripts call TIME themselves; code outside Redis asks a clock that is set by TIME.
 */

import type { RedisClient } from "./client.ts";

export interface Clock {
  /** Unix milliseconds, as Redis counts them. */
  now(): number;
}

/** The time of Redis, for a process that has no clock set by it. */
export async function redisNow(redis: Pick<RedisClient, "time">): Promise<number> {
  const [seconds, microseconds] = await redis.time();
  return Number(seconds) * 1000 + Math.floor(Number(microseconds) / 1000);
}

/** A reply of TIME that took longer than this is not used: it says too little about now. */
const ROUND_TRIP_MAX_MS = 1_000;

/** A clock that runs with the process's monotonic clock, so a change of the machine's time does not change it. */
export class RedisClock implements Clock {
  #offsetMs: number | null = null;

  /** Redis' time; the machine's time until `sync` was called for the first time. */
  now(): number {
    return this.#offsetMs === null ? Date.now() : Math.round(performance.now() + this.#offsetMs);
  }

  /** How far the machine's clock is ahead of Redis, in ms; negative if it is behind. 0 before the first `sync`. */
  get aheadMs(): number {
    return Date.now() - this.now();
  }

  /**
   * Sets the clock.
   * @param redisMs a reply of TIME, in Unix ms
   * @param sentAt `performance.now()` when the command was sent
   */
  sync(redisMs: number, sentAt: number): void {
    const receivedAt = performance.now();
    if (receivedAt - sentAt > ROUND_TRIP_MAX_MS && this.#offsetMs !== null) return;
    this.#offsetMs = redisMs - (sentAt + receivedAt) / 2;
  }
}

/** Lua: the local variable `nowMs`, the time of Redis. */
export const NOW_LUA = `
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
`;
