/** A worker's clock follows Redis, and it says so when the machine's own clock is off. */
import { afterEach, expect, test, vi } from "vitest";
import { WatchedClock } from "../../../worker/redis/clock.ts";

afterEach(() => void vi.useRealTimers());

test.each([
  [0, null],
  [4_000, null],
  [-4_000, null],
  [3_600_000, "The machine's clock is 3600 s behind Redis"],
  [-60_000, "The machine's clock is 60 s ahead of Redis"],
])("Redis' time differs by %i ms: %s", (differenceMs, problem) => {
  const clock = new WatchedClock();
  expect(clock.problem).toBeNull();
  const redisMs = Date.now() + differenceMs;
  clock.sync(redisMs, performance.now());
  expect(Math.abs(clock.now() - redisMs)).toBeLessThan(1_000);
  expect(clock.problem).toBe(problem);
});

test("a change of the machine's time does not change the clock", () => {
  const clock = new WatchedClock();
  const redisMs = Date.now();
  clock.sync(redisMs, performance.now());
  vi.useFakeTimers({ toFake: ["Date"], now: redisMs + 30 * 86_400_000 });
  expect(Math.abs(clock.now() - redisMs)).toBeLessThan(1_000);
  expect(clock.problem).toBe("The machine's clock is 2592000 s ahead of Redis");
});
