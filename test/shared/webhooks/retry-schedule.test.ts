import { afterEach, expect, test, vi } from "vitest";
import { nextAttemptDelayMs, RETRY_DELAYS_MS } from "../../../shared/webhooks/retry-schedule.ts";

const HOUR_MS = 3_600_000;

afterEach(() => {
  vi.useRealTimers();
});

test("the delays are those of Standard Webhooks, about 75 hours in total, and then there is no attempt left", () => {
  const delays = RETRY_DELAYS_MS.map((_, i) => nextAttemptDelayMs(i + 1, undefined, 0));
  const hours = [0.5, 2, 5, 10, 14, 20, 24].map((hours) => hours * HOUR_MS);
  expect(delays).toEqual([5_000, 300_000, ...hours]);
  expect(delays.reduce((sum: number, delay) => sum + delay!, 0) / HOUR_MS).toBeCloseTo(75.6, 1);
  expect(nextAttemptDelayMs(RETRY_DELAYS_MS.length + 1, "60", 0)).toBeNull();
});

test("jitter makes a delay longer, by a tenth at most", () => {
  expect(nextAttemptDelayMs(4, undefined, 1)).toBe(2 * HOUR_MS + HOUR_MS / 5);
});

test.each<[string | undefined, number]>([
  ["3600", HOUR_MS],
  // A shorter delay than the schedule's is ignored.
  ["1", 5_000],
  ["999999999", 24 * HOUR_MS],
  ["Thu, 01 Jan 2026 02:00:00 GMT", 2 * HOUR_MS],
  ["Wed, 31 Dec 2025 00:00:00 GMT", 5_000],
  ["soon", 5_000],
  ["-5", 5_000],
])("Retry-After: %s", (header, delayMs) => {
  vi.useFakeTimers({ now: new Date("2026-01-01T00:00:00Z"), toFake: ["Date"] });
  expect(nextAttemptDelayMs(1, header, 0)).toBe(delayMs);
});
