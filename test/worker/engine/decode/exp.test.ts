/** The fast exp against Math.exp. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { logSumExp, maxOf, expNormalize } from "../../../../worker/engine/decode/exp.ts";

const logit = fc.float({ min: -1_000, max: 1_000, noNaN: true });
const logits = fc
  .array(logit, { minLength: 1, maxLength: 40 })
  .map((all) => Float32Array.from(all));

test("weights are exp(value - max), and their sum is returned", () => {
  fc.assert(
    fc.property(logits, (values) => {
      const max = Math.max(...values);
      const out = new Float32Array(values.length);
      const sum = expNormalize(out, values, max);
      const reference = Array.from(values, (value) => Math.exp(value - max));
      expect(maxOf(values)).toBe(max);
      for (const [i, weight] of reference.entries()) expect(out[i]).toBeCloseTo(weight, 6);
      const total = reference.reduce((a, b) => a + b);
      expect(Math.abs(sum / total - 1)).toBeLessThan(1e-10);
    }),
  );
});

test("every table entry has a relative error below 1e-11", () => {
  const out = new Float32Array(1);
  for (let x = -700; x <= 0; x += 0.0137) {
    const value = Math.fround(x);
    const sum = expNormalize(out, Float32Array.of(value), 0);
    expect(Math.abs(sum / Math.exp(value) - 1)).toBeLessThan(1e-11);
  }
});

test("-Infinity and NaN give 0", () => {
  const out = new Float32Array(3).fill(7);
  expect(expNormalize(out, Float32Array.of(2, Number.NEGATIVE_INFINITY, Number.NaN), 2)).toBe(1);
  expect([...out]).toEqual([1, 0, 0]);
});

test("logSumExp is the logarithm of the sum, however large the logits are", () => {
  expect(logSumExp(Float32Array.of(0, 0, 0))).toBeCloseTo(Math.log(3), 10);
  expect(logSumExp(Float32Array.of(1e4, 1e4, -1e4))).toBeCloseTo(1e4 + Math.log(2), 9);
});
