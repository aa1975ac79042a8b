/**
 * The budget counts steps. These tests compare the processor time of formats within one run: what costs far more than the pattern that
 * takes the whole budget does work that is not counted.
 */
import { expect, test } from "vitest";
import type { ResponseFormat } from "../../../shared/api/response-formats.ts";
import { COSTLY_FORMATS, compiledOrObject, WHOLE_BUDGET } from "../../support/costly-formats.ts";

/**
 * Objects that can be written smaller spend up to one and a half budgets, and take up to 5 times as long. Formats whose work was not
 * counted took 40 to 1,000 times as long.
 */
const FACTOR = 10;

/** Milliseconds of this thread's processor time: a busy machine hardly changes it. */
function cost(format: ResponseFormat): number {
  const before = process.threadCpuUsage();
  compiledOrObject(format);
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1_000;
}

const runs = Array.from({ length: 7 }, () => cost(WHOLE_BUDGET)).toSorted((a, b) => a - b);
const wholeBudgetMs = runs[3]!;

test.each(COSTLY_FORMATS)("%s", (_name, format) => {
  const limit = FACTOR * wholeBudgetMs;
  // A second look at one that seems too costly: the first one compiles code.
  const ms = cost(format);
  expect(ms < limit ? ms : Math.min(ms, cost(format))).toBeLessThan(limit);
});
