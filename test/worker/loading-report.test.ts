import { expect, test, vi } from "vitest";
import { LoadingReport } from "../../worker/loading-report.ts";

test("a model that loads for long is named with its time, in the log every half minute", () => {
  vi.useFakeTimers();
  const lines: string[] = [];
  const log = { info: (_: object, text: string) => lines.push(text) };
  const report = new LoadingReport(log as never, () => Date.now());
  expect(report.text()).toBe("");
  const of = { stage: "load", loaded: 1, of: 3, bytes: 2 ** 20, bytesOf: 9 * 2 ** 20 } as const;
  report.update({ ...of, model: "/models/base" });
  vi.advanceTimersByTime(12_000);
  expect(report.text()).toBe("Models loaded: 1 of 3 (1 of 9 MiB). /models/base loads since 12 s");
  report.update({ ...of, model: "/models/base", prepares: true });
  vi.advanceTimersByTime(50_000);
  const counts = "Models loaded: 1 of 3 (1 of 9 MiB)";
  expect(lines).toEqual([
    `${counts}. /models/base loads since 0 s`,
    `${counts}. /models/base is prepared (once) and loads since 12 s`,
    `${counts}. /models/base is prepared (once) and loads since 30 s`,
    `${counts}. /models/base is prepared (once) and loads since 60 s`,
  ]);
  report.update({ ...of, loaded: 3, bytes: 9 * 2 ** 20, model: null });
  expect(report.text()).toBe("Models loaded: 3 of 3 (9 of 9 MiB)");
  report.close();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});
