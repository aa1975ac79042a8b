/** When a failed webhook delivery is attempted again: the schedule of Standard Webhooks, 75 h 35 min in total. */

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** The delay before each attempt after the first. */
export const RETRY_DELAYS_MS: readonly number[] = [
  5_000,
  5 * MINUTE_MS,
  30 * MINUTE_MS,
  2 * HOUR_MS,
  5 * HOUR_MS,
  10 * HOUR_MS,
  14 * HOUR_MS,
  20 * HOUR_MS,
  24 * HOUR_MS,
];

/** Up to this fraction of a delay is added at random, so that deliveries that failed together are not retried together. */
const JITTER = 0.1;
/** A longer Retry-After of a receiver is shortened to this. */
const RETRY_AFTER_MAX_MS = 24 * HOUR_MS;

/**
 * The delay before the next attempt: that of the schedule, or the receiver's Retry-After if that is longer.
 * @param failures count of attempts so far, 1 or more, all failed
 * @param retryAfter the receiver's `Retry-After` header: seconds or an HTTP date; anything else is ignored
 * @param random 0 to 1
 * @returns milliseconds, or null if no attempt is left
 */
export function nextAttemptDelayMs(
  failures: number,
  retryAfter: string | undefined,
  random: number,
): number | null {
  const delay = RETRY_DELAYS_MS[failures - 1];
  if (delay === undefined) return null;
  const requested = Math.min(retryAfterMs(retryAfter), RETRY_AFTER_MAX_MS);
  return Math.round(Math.max(delay, requested) + delay * JITTER * random);
}

function retryAfterMs(text = ""): number {
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? 0 : ms;
}
