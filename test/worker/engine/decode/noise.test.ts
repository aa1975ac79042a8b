/** Gumbel noise: fixed values, distribution and independence. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { gumbel, GUMBEL_MAX, GumbelNoise } from "../../../../worker/engine/decode/noise.ts";
import { correlation, uniformDistance } from "../../../support/statistics.ts";

const seeds = fc.maxSafeNat();
const positions = fc.nat(100_000);
const tokens = fc.nat(300_000);

function noiseAt(seed: number, position: number, token: number): number {
  const noise = new GumbelNoise(seed);
  noise.seek(position);
  return noise.at(token);
}

/** The uniform number behind a Gumbel noise value. */
const uniformOf = (noise: number) => Math.exp(-Math.exp(-noise));
const count = Array.from({ length: 20_000 }, (_, i) => i);

test("noise depends on seed, position and token, not on earlier calls", () => {
  const calls = fc.array(fc.tuple(positions, tokens), { minLength: 1, maxLength: 20 });
  fc.assert(
    fc.property(seeds, calls, (seed, calls) => {
      const noise = new GumbelNoise(seed);
      for (const [position, token] of calls) {
        noise.seek(position);
        noise.at(token + 1);
        expect(noise.at(token)).toBe(noiseAt(seed, position, token));
      }
    }),
  );
});

test("the values are fixed: changing them changes every seeded result", () => {
  const last = noiseAt(Number.MAX_SAFE_INTEGER, 32_767, 262_143);
  expect(noiseAt(0, 0, 0)).toBeCloseTo(-0.42018135055601724, 12);
  expect(noiseAt(0, 0, 1)).toBeCloseTo(0.6820137200584193, 12);
  expect(noiseAt(0, 1, 0)).toBeCloseTo(0.9938937547823914, 12);
  expect(noiseAt(1, 0, 0)).toBeCloseTo(1.2570021441485302, 12);
  expect(noiseAt(2 ** 32, 0, 0)).toBeCloseTo(2.88978721200978, 12);
  expect(last).toBeCloseTo(1.1826832003294347, 12);
});

test.each<[string, (i: number) => number]>([
  ["tokens", (i) => noiseAt(7, 3, i)],
  ["positions", (i) => noiseAt(7, i, 3)],
  ["seeds", (i) => noiseAt(i, 7, 3)],
  ["high halves of seeds", (i) => noiseAt(i * 2 ** 32, 7, 3)],
])("the noise of successive %s is Gumbel distributed and independent", (_, at) => {
  const uniform = count.map((i) => uniformOf(at(i)));
  expect(uniformDistance(uniform)).toBeLessThan(1.95);
  expect(Math.abs(correlation(uniform.slice(1), uniform.slice(0, -1)))).toBeLessThan(4);
});

test.each<[string, number, number]>([
  ["the next seed", 8, 3],
  ["a seed that differs above 32 bits", 7 + 2 ** 32, 3],
  ["the next position", 7, 4],
])("%s has unrelated noise for the same tokens", (_, seed, position) => {
  const here = count.map((token) => uniformOf(noiseAt(7, 3, token)));
  const there = count.map((token) => uniformOf(noiseAt(seed, position, token)));
  expect(Math.abs(correlation(here, there))).toBeLessThan(4);
});

test("noise is between -3.7 and GUMBEL_MAX for any random bits", () => {
  const words = fc.oneof(fc.constantFrom(0, 2 ** 31, 2 ** 32 - 1), fc.nat(2 ** 32 - 1));
  expect(gumbel(2 ** 32 - 1, 2 ** 32 - 1)).toBeGreaterThan(36);
  expect(gumbel(0, 0)).toBeLessThan(-3.6);
  fc.assert(
    fc.property(words, words, (high, low) => {
      const noise = gumbel(high, low);
      expect(noise).toBeLessThan(GUMBEL_MAX);
      expect(noise).toBeGreaterThan(-3.7);
    }),
  );
});

test("above() gives the same noise as at(), or -Infinity only if the noise is at most the floor", () => {
  const floors = fc.integer({ min: -40, max: 400 }).map((tenths) => tenths / 10);
  let leftOut = 0;
  fc.assert(
    fc.property(seeds, positions, tokens, floors, (seed, position, token, floor) => {
      const noise = new GumbelNoise(seed);
      noise.seek(position);
      const above = noise.above(token, floor);
      const isLeftOut = above === Number.NEGATIVE_INFINITY;
      if (isLeftOut) leftOut++;
      expect(isLeftOut ? noise.at(token) <= floor : above === noise.at(token)).toBe(true);
    }),
    { numRuns: 2_000 },
  );
  expect(leftOut).toBeGreaterThan(500);
});
