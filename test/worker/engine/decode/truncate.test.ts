/** Top-k, top-p and min-p against a full sort. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isInside } from "../../../../worker/engine/decode/border.ts";
import { topIds, truncate, type Truncation } from "../../../../worker/engine/decode/truncate.ts";
import { softmax } from "../../../support/sampling.ts";

/** Few different values, so that ties are common. */
const logits = fc
  .array(fc.integer({ min: -6, max: 6 }), { minLength: 1, maxLength: 200 })
  .map((values) => Float32Array.from(values));

function ranking(logits: Float32Array): number[] {
  return Array.from(logits, (_, id) => id).sort((a, b) => logits[b]! - logits[a]! || a - b);
}

function referenceTruncate(logits: Float32Array, { topK, topP, minP }: Truncation): number[] {
  let ids = ranking(logits);
  if (topK > 0) ids = ids.slice(0, topK);
  const probabilities = softmax(ids.map((id) => logits[id]!));
  let mass = 0;
  let size = 0;
  while (size < ids.length && mass < topP) mass += probabilities[size++]!;
  return (topP < 1 ? ids.slice(0, size) : ids).filter(
    (_, rank) => probabilities[rank]! >= minP * probabilities[0]!,
  );
}

/** Ids of the tokens that remain, in order. */
function remaining(logits: Float32Array, options: Truncation): number[] {
  const border = truncate(logits, options);
  return [...logits.keys()].filter((id) => !border || isInside(logits[id]!, id, border));
}

const sorted = (ids: readonly number[]) => ids.toSorted((a, b) => a - b);

test("topIds gives the first of the whole ranking, of equal logits the lower id first", () => {
  fc.assert(
    fc.property(logits, fc.integer({ min: 1, max: 250 }), (logits, k) => {
      expect(topIds(logits, k)).toEqual(ranking(logits).slice(0, k));
    }),
  );
});

describe("truncate", () => {
  // Avoids fractions that equal the sum of tied logits: there, the order of the summation would decide.
  const fraction = fc.nat(999).map((n) => (n + 0.317) / 1000);
  const options = fc.record({
    topK: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 250 })),
    topP: fc.oneof(fc.constant(1), fraction),
    minP: fc.oneof(fc.constant(0), fraction),
  });

  test("applies top-k, then top-p, then min-p", () => {
    fc.assert(
      fc.property(logits, options, (logits, options) => {
        expect(remaining(logits, options)).toEqual(sorted(referenceTruncate(logits, options)));
      }),
      { numRuns: 500 },
    );
  });

  test("finds the nucleus of a flat distribution", () => {
    const flat = new Float32Array(5_000);
    const kept = remaining(flat, { topK: 0, topP: 0.5001, minP: 0 });
    expect(kept).toEqual(Array.from({ length: 2_501 }, (_, id) => id));
  });

  test("gives null if all tokens remain", () => {
    expect(truncate(Float32Array.of(1, 2), { topK: 0, topP: 1, minP: 0 })).toBeNull();
    expect(truncate(Float32Array.of(1, 2), { topK: 2, topP: 1, minP: 0 })).toBeNull();
  });

  test("keeps every token that ties with the most likely one at min-p 1", () => {
    const tied = Float32Array.of(1, 3, 3, 2, 3);
    expect(remaining(tied, { topK: 0, topP: 1, minP: 1 })).toEqual([1, 2, 4]);
  });

  test("ends a nucleus at a mass that is reached exactly", () => {
    expect(remaining(Float32Array.of(0, 0), { topK: 0, topP: 0.5, minP: 0 })).toEqual([0]);
  });

  test("measures the nucleus within the top k", () => {
    const logits = Float32Array.from([0.5, 0.3, 0.2], Math.log);
    expect(remaining(logits, { topK: 0, topP: 0.6, minP: 0 })).toEqual([0, 1]);
    expect(remaining(logits, { topK: 2, topP: 0.6, minP: 0 })).toEqual([0]);
  });
});

/** Distributions of 20,000 tokens that are hard for a selection. */
const LARGE: readonly (readonly [string, (id: number) => number])[] = [
  ["flat", (id) => Math.sin(id) / 10],
  ["equal", () => 1.5],
  ["rising", (id) => id / 2_000],
  ["falling", (id) => -id / 2_000],
  ["peaked", (id) => 12 * Math.sin(id * id) ** 9],
  ["of few values", (id) => id % 7],
  ["of two zeros", (id) => (id % 2 === 0 ? 0 : -0)],
  ["with masked tokens", (id) => (id % 3 === 0 ? Number.NEGATIVE_INFINITY : Math.cos(id))],
  ["with NaN", (id) => (id % 1_000 === 0 ? Number.NaN : Math.sin(id))],
];

describe.each(LARGE)("a large distribution that is %s", (_, logit) => {
  const logits = Float32Array.from({ length: 20_000 }, (_, id) => logit(id));
  const ranked = Array.from(logits.keys())
    .filter((id) => !Number.isNaN(logits[id]))
    .sort((a, b) => logits[b]! - logits[a]! || a - b);

  test.each([1, 20, 300, 5_000, 19_000])("has the same %d likeliest tokens as a sort", (k) => {
    expect(topIds(logits, k)).toEqual(ranked.slice(0, k));
    expect(remaining(logits, { topK: k, topP: 1, minP: 0 })).toEqual(sorted(ranked.slice(0, k)));
  });

  test.each([0.001, 0.1003, 0.5003, 0.9003, 0.9999])("has the same nucleus of %d", (topP) => {
    const max = logits[ranked[0]!]!;
    const weights = ranked.map((id) => Math.exp(logits[id]! - max));
    const total = weights.reduce((sum, weight) => sum + weight);
    let [mass, size] = [0, 0];
    while (mass < topP * total) mass += weights[size++]!;
    const kept = remaining(logits, { topK: 0, topP, minP: 0 });
    expect(kept).toEqual(sorted(ranked.slice(0, size)));
  });
});

test("the k largest of few numbers among NaN hold all of these", () => {
  const logits = new Float32Array(400).fill(Number.NaN);
  [logits[200], logits[300]] = [1, Number.NEGATIVE_INFINITY];
  expect(topIds(logits, 2)).toEqual([200, 300]);
});
