/** Draft lengths, prompt lookup and running means. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  DRAFT_TOKENS_MAX,
  draftLength,
  EXTRA_TOKEN_COST,
  promptLookup,
  RunningMean,
  type DraftCosts,
} from "../../../../worker/engine/decode/draft.ts";

/** Reference: expected tokens per millisecond of verifying k at once, over all positions of the first rejection. */
function speed({ acceptance: a, draftMs, verifyMs, stepMs }: DraftCosts, k: number): number {
  let tokens = k * a ** (k - 1);
  for (let right = 0; right < k - 1; right++) tokens += (right + 1) * a ** right * (1 - a);
  if (k === 1) return tokens / stepMs;
  return tokens / (k * draftMs + verifyMs * (1 + EXTRA_TOKEN_COST * (k - 1)));
}

test("the draft length gives the most tokens per millisecond", () => {
  const ms = (min: number) => fc.double({ min, max: 100, noNaN: true });
  const acceptance = fc.double({ min: 0, max: 1, noNaN: true });
  const costs = fc.record({ acceptance, draftMs: ms(0), verifyMs: ms(0.01), stepMs: ms(0.01) });
  fc.assert(
    fc.property(costs, (costs) => {
      const chosen = draftLength(costs);
      expect(chosen).toBeGreaterThanOrEqual(1);
      expect(chosen).toBeLessThanOrEqual(DRAFT_TOKENS_MAX);
      for (let k = 1; k <= DRAFT_TOKENS_MAX; k++) {
        expect(speed(costs, chosen)).toBeGreaterThanOrEqual(speed(costs, k) * (1 - 1e-12));
      }
    }),
  );
});

test.each([
  [
    "no drafts if none is ever accepted",
    { acceptance: 0, draftMs: 0, verifyMs: 10, stepMs: 10 },
    1,
  ],
  [
    "the most drafts if they are free and always right",
    { acceptance: 1, draftMs: 0, verifyMs: 10, stepMs: 10 },
    DRAFT_TOKENS_MAX,
  ],
  [
    "no drafts if they cost more than they save",
    { acceptance: 0.9, draftMs: 9, verifyMs: 0.01, stepMs: 9.01 },
    1,
  ],
])("%s", (_, costs, length) => {
  expect(draftLength(costs)).toBe(length);
});

test("prompt lookup finds what followed the latest occurrence of the last three tokens", () => {
  // Few different tokens, so that sequences repeat.
  const history = fc.array(fc.nat(2), { maxLength: 30 });
  fc.assert(
    fc.property(history, fc.nat(DRAFT_TOKENS_MAX), (history, count) => {
      const end = history.slice(-3).join();
      let expected: number[] = [];
      for (let start = 0; start < history.length - 3; start++) {
        if (history.slice(start, start + 3).join() !== end) continue;
        expected = history.slice(start + 3, start + 3 + count);
      }
      expect(promptLookup(history, count)).toEqual(expected);
    }),
    { numRuns: 1000 },
  );
});

test.each([
  [[], []],
  [[1, 2, 3], []],
  [[1, 1, 1, 1], [1]],
  [
    [1, 2, 3, 4, 5, 1, 2, 3],
    [4, 5],
  ],
  [
    [1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3],
    [5, 1],
  ],
])("prompt lookup in %j finds %j", (history, found) => {
  expect(promptLookup(history, 2)).toEqual(found);
});

test("a running mean starts at its initial value, and converges to the observations", () => {
  const mean = new RunningMean(0.7, 6);
  expect(mean.value).toBe(0.7);
  mean.observe(0);
  expect(mean.value).toBeCloseTo(0.6, 10);
  for (let i = 0; i < 200; i++) mean.observe(3);
  expect(mean.value).toBeCloseTo(3, 3);
});

test("a running mean with an initial count of 0 starts with the first observation", () => {
  const mean = new RunningMean(1, 0);
  mean.observe(40);
  mean.observe(20);
  expect(mean.value).toBe(30);
});
