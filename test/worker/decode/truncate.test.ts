import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { topIds, truncate, type Truncation } from "../../../worker/decode/truncate.ts";
import { softmax } from "../../support/sampling.ts";

/** Few values, so that ties are common. */
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

const sorted = (ids: readonly number[]) => ids.toSorted((a, b) => a - b);

test("topIds are the first of the whole ranking, ties by lower id", () => {
  fc.assert(
    fc.property(logits, fc.integer({ min: 1, max: 250 }), (logits, k) => {
      expect(topIds(logits, k)).toEqual(ranking(logits).slice(0, k));
    }),
  );
});

describe("truncate", () => {
  // Off the fractions that tied logits add up to: there, the order of summation decides.
  const fraction = fc.nat(999).map((n) => (n + 0.317) / 1000);
  const options = fc.record({
    topK: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 250 })),
    topP: fc.oneof(fc.constant(1), fraction),
    minP: fc.oneof(fc.constant(0), fraction),
  });

  test("keeps what top-k, then top-p, then min-p of the whole ranking keep", () => {
    fc.assert(
      fc.property(logits, options, (logits, options) => {
        const kept = truncate(logits, options) ?? ranking(logits);
        expect(sorted(kept)).toEqual(sorted(referenceTruncate(logits, options)));
      }),
      { numRuns: 500 },
    );
  });

  test("puts the likeliest first where there is a ranking", () => {
    const ranked = options.filter(({ topK, topP }) => topK > 0 || topP < 1);
    fc.assert(
      fc.property(logits, ranked, (logits, options) => {
        expect(truncate(logits, options)).toEqual(referenceTruncate(logits, options));
      }),
    );
  });

  test("ranks as far as a flat distribution needs", () => {
    const flat = new Float32Array(5_000);
    const kept = truncate(flat, { topK: 0, topP: 0.5001, minP: 0 });
    expect(kept).toEqual(Array.from({ length: 2_501 }, (_, id) => id));
  });

  test("gives null if nothing is to be left out", () => {
    expect(truncate(Float32Array.of(1, 2), { topK: 0, topP: 1, minP: 0 })).toBeNull();
  });

  test("keeps every token that ties with the likeliest at min-p 1", () => {
    const tied = Float32Array.of(1, 3, 3, 2, 3);
    expect(truncate(tied, { topK: 0, topP: 1, minP: 1 })).toEqual([1, 2, 4]);
  });

  test("stops a nucleus at a mass that is reached exactly", () => {
    expect(truncate(Float32Array.of(0, 0), { topK: 0, topP: 0.5, minP: 0 })).toEqual([0]);
  });

  test("measures the nucleus within the top k", () => {
    const logits = Float32Array.from([0.5, 0.3, 0.2], Math.log);
    expect(truncate(logits, { topK: 0, topP: 0.6, minP: 0 })).toEqual([0, 1]);
    expect(truncate(logits, { topK: 2, topP: 0.6, minP: 0 })).toEqual([0]);
  });
});
