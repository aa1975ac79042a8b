/** When a webhook that was not received is sent again: the schedule that Standard Webhooks gives, 75 h 35 min in all. */

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;

/** Delay before each attempt after the first. */
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

/** Up to this share of a delay is added at random, so that what failed together does not come back together. */
const JITTER = 0.1;
/** A receiver may ask for a later attempt, but not put it off for ever. */
const RETRY_AFTER_MAX_MS = 24 * HOUR_MS;

/**
 * @param failures attempts so far, 1 or more, all failed
 * @param retryAfter the receiver's `Retry-After`: seconds or an HTTP date; what is neither is ignored
 * @param random 0 to 1
 * @returns ms until the next attempt, or null if there is none
 */
export function nextDelayMs(
  failures: number,
  retryAfter: string | undefined,
  random: number,
): number | null {
  const delay = RETRY_DELAYS_MS[failures - 1];
  if (delay === undefined) return null;
  const asked = Math.min(parseRetryAfter(retryAfter), RETRY_AFTER_MAX_MS);
  return Math.round(Math.max(delay, asked) + delay * JITTER * random);
}

function parseRetryAfter(text = ""): number {
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isNaN(ms) ? 0 : ms;
}
