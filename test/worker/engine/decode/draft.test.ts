/** Numbers of drafts, and running means. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import {
  DRAFT_TOKENS_MAX,
  draftWidth,
  RunningMean,
  type DraftChance,
} from "../../../../worker/engine/decode/draft.ts";

/** Reference: tokens of one sequence, over all positions of the first rejection. */
function tokensOf({ acceptance: a, tokensMax }: DraftChance, width: number): number {
  const k = Math.min(width, tokensMax);
  let tokens = k * a ** (k - 1);
  for (let right = 0; right < k - 1; right++) tokens += (right + 1) * a ** right * (1 - a);
  return tokens;
}

test("the width gives the most tokens per millisecond of all sequences together", () => {
  const number = (min: number, max: number) => fc.double({ min, max, noNaN: true });
  const chance = fc.record({
    acceptance: number(0, 1),
    tokensMax: fc.integer({ min: 1, max: 2 * DRAFT_TOKENS_MAX }),
  });
  const chances = fc.array(chance, { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(chances, number(0.01, 100), number(0, 100), (chances, runMs, tokenMs) => {
      const costMs = (width: number) => runMs + tokenMs * width;
      const speed = (width: number) =>
        chances.reduce((sum, chance) => sum + tokensOf(chance, width), 0) / costMs(width);
      const chosen = draftWidth(chances, costMs);
      const longest = Math.max(...chances.map(({ tokensMax }) => tokensMax));
      expect(chosen.width).toBeLessThanOrEqual(Math.min(DRAFT_TOKENS_MAX, longest));
      expect(chosen.speed).toBeCloseTo(speed(chosen.width), 8);
      for (let width = 1; width <= DRAFT_TOKENS_MAX; width++) {
        expect(speed(chosen.width)).toBeGreaterThanOrEqual(speed(width) * (1 - 1e-12));
      }
    }),
  );
});

test.each([
  ["no drafts if none is ever accepted", 0, () => 10, 1],
  ["the most drafts if they are free and always right", 1, () => 10, DRAFT_TOKENS_MAX],
  ["no drafts if they cost what they save", 1, (width: number) => 10 * width, 1],
])("%s", (_, acceptance, costMs, width) => {
  expect(draftWidth([{ acceptance, tokensMax: 20 }], costMs).width).toBe(width);
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
