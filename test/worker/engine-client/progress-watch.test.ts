/** When a thread counts as hung: it has work, and makes no progress for the time allowed. */
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { ProgressWatch } from "../../../worker/engine-client/progress-watch.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function watched() {
  const onHang = vi.fn<() => void>();
  const work = { exists: true };
  return { onHang, work, watch: new ProgressWatch(() => work.exists, 10, onHang) };
}

test("a thread with work and without progress hangs after the time, and is reported once", () => {
  const { onHang } = watched();
  vi.advanceTimersByTime(9_000);
  expect(onHang).not.toHaveBeenCalled();
  vi.advanceTimersByTime(60_000);
  expect(onHang).toHaveBeenCalledTimes(1);
});

test("progress, and time without work, begin the count again", () => {
  const { onHang, work, watch } = watched();
  vi.advanceTimersByTime(9_000);
  watch.progressed();
  vi.advanceTimersByTime(9_000);
  work.exists = false;
  vi.advanceTimersByTime(60_000);
  work.exists = true;
  vi.advanceTimersByTime(9_000);
  expect(onHang).not.toHaveBeenCalled();
});

test("time in which the whole process is suspended does not count", () => {
  const { onHang } = watched();
  vi.advanceTimersByTime(5_000);
  // A suspended process gets one tick afterwards.
  vi.setSystemTime(Date.now() + 3_600_000);
  vi.advanceTimersByTime(1_000);
  expect(onHang).not.toHaveBeenCalled();
});
