/** Top-k, top-p and min-p against a full sort. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  nucleus,
  topIds,
  truncate,
  type Truncation,
} from "../../../../worker/engine/decode/truncate.ts";
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
        const remaining = truncate(logits, options) ?? ranking(logits);
        expect(sorted(remaining)).toEqual(sorted(referenceTruncate(logits, options)));
      }),
      { numRuns: 500 },
    );
  });

  test("orders by probability with top-k or top-p", () => {
    const ranked = options.filter(({ topK, topP }) => topK > 0 || topP < 1);
    fc.assert(
      fc.property(logits, ranked, (logits, options) => {
        expect(truncate(logits, options)).toEqual(referenceTruncate(logits, options));
      }),
    );
  });

  test("finds the nucleus of a flat distribution", () => {
    const flat = new Float32Array(5_000);
    const remaining = truncate(flat, { topK: 0, topP: 0.5001, minP: 0 });
    expect(remaining).toEqual(Array.from({ length: 2_501 }, (_, id) => id));
  });

  test("gives null if all tokens remain", () => {
    expect(truncate(Float32Array.of(1, 2), { topK: 0, topP: 1, minP: 0 })).toBeNull();
  });

  test("keeps every token that ties with the most likely one at min-p 1, in the order of ids", () => {
    const tied = Float32Array.of(1, 3, 3, 2, 3);
    expect(truncate(tied, { topK: 0, topP: 1, minP: 1 })).toEqual([1, 2, 4]);
  });

  test("ends a nucleus at a mass that is reached exactly", () => {
    expect(truncate(Float32Array.of(0, 0), { topK: 0, topP: 0.5, minP: 0 })).toEqual([0]);
  });

  test("measures the nucleus within the top k", () => {
    const logits = Float32Array.from([0.5, 0.3, 0.2], Math.log);
    expect(truncate(logits, { topK: 0, topP: 0.6, minP: 0 })).toEqual([0, 1]);
    expect(truncate(logits, { topK: 2, topP: 0.6, minP: 0 })).toEqual([0]);
  });
});

test("the nucleus of a flat distribution has the order of topIds: equal logits by id", () => {
  const logits = Float32Array.from({ length: 10_000 }, (_, id) => Math.sin(id) / 10);
  for (const [id, logit] of [-0, 0, -0, Number.NEGATIVE_INFINITY, 0.5, 0.5, -7].entries()) {
    logits[id] = logit;
  }
  for (const topP of [0.99, 1]) {
    const most = nucleus(logits, null, topP);
    expect(most.length).toBeGreaterThan(4_096);
    expect(most).toEqual(topIds(logits, most.length));
  }
});
