/** The gate: where the shift is applied. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Gate } from "../../../../worker/engine/decode/gate.ts";

const logits = fc
  .array(fc.oneof(fc.double({ min: -20, max: 20, noNaN: true }), fc.constant(-Infinity)), {
    minLength: 2,
    maxLength: 40,
  })
  .filter((values) => values.filter(Number.isFinite).length >= 2)
  .map((values) => Float32Array.from(values));

function entropyOf(values: Float32Array): number {
  const weights = Array.from(values, (value) => Math.exp(value - Math.max(...values)));
  const sum = weights.reduce((a, b) => a + b);
  return -weights.reduce((total, w) => (w > 0 ? total + (w / sum) * Math.log(w / sum) : total), 0);
}

const isOpen = (values: Float32Array, options: { minEntropy?: number; maxMargin?: number }) =>
  new Gate(options, values.length).isOpen(values);

test("min_entropy: open from this entropy on", () => {
  fc.assert(
    fc.property(logits, (values) => {
      const entropy = entropyOf(values);
      expect(isOpen(values, { minEntropy: entropy + 1e-4 })).toBe(false);
      expect(isOpen(values, { minEntropy: Math.max(0, entropy - 1e-4) })).toBe(true);
    }),
  );
});

test("max_margin: open up to this difference of the two largest logits", () => {
  fc.assert(
    fc.property(logits, (values) => {
      const [first, second] = values.toSorted().toReversed();
      const margin = first! - second!;
      expect(isOpen(values, { maxMargin: margin })).toBe(true);
      expect(isOpen(values, { maxMargin: margin - 0.1 })).toBe(false);
    }),
  );
});

test("with both conditions, both must hold", () => {
  const sure = Float32Array.from([5, 0, 0]);
  const unsure = Float32Array.from([1, 1, 1]);
  const both = { minEntropy: 0.5, maxMargin: 1 };
  expect([isOpen(sure, both), isOpen(unsure, both)]).toEqual([false, true]);
  expect(isOpen(sure, { minEntropy: 0, maxMargin: 1 })).toBe(false);
  expect(isOpen(unsure, { minEntropy: 2, maxMargin: 1 })).toBe(false);
});

test("an entropy of 0 opens the gate at every token, and a certain base has none", () => {
  const certain = Float32Array.from([0, -Infinity, -Infinity]);
  expect(isOpen(certain, { minEntropy: 0 })).toBe(true);
  expect(isOpen(certain, { minEntropy: 1e-6 })).toBe(false);
});
