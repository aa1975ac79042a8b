/** The formula of proxy-tuning. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { combineLogits } from "../../../../worker/engine/decode/combine.ts";

const logit = fc.float({ min: -100, max: 100, noNaN: true });
const logits = (size: number) =>
  fc.array(logit, { minLength: size, maxLength: size }).map((values) => Float32Array.from(values));

test("the steered logits are base + alpha * (expert - antiexpert), token by token", () => {
  const rows = fc
    .integer({ min: 1, max: 50 })
    .chain((size) => fc.tuple(logits(size), logits(size), logits(size)));
  fc.assert(
    fc.property(
      rows,
      fc.double({ min: -4, max: 4, noNaN: true }),
      ([base, expert, anti], alpha) => {
        const out = new Float32Array(base.length);
        combineLogits(out, base, expert, anti, alpha);
        const reference = [...base].map((b, i) => Math.fround(b + alpha * (expert[i]! - anti[i]!)));
        expect([...out]).toEqual(reference);
      },
    ),
  );
});

test("alpha 0 gives the base itself", () => {
  const out = new Float32Array(2);
  combineLogits(out, Float32Array.of(1, 2), Float32Array.of(9, 9), Float32Array.of(-9, 5), 0);
  expect([...out]).toEqual([1, 2]);
});

test("padding beyond the vocabulary is never read", () => {
  const out = new Float32Array(2);
  const wider = Float32Array.of(1, 2, Number.NaN, Number.NaN);
  combineLogits(out, wider, Float32Array.of(3, 5), Float32Array.of(1, 1, 7), 0.5);
  expect([...out]).toEqual([2, 4]);
});

test.each([
  [1, 2, 2],
  [2, 1, 2],
  [2, 2, 1],
])("%i, %i and %i logits are refused for a vocabulary of two", (base, expert, antiexpert) => {
  const rows = [base, expert, antiexpert].map((size) => new Float32Array(size));
  expect(() => combineLogits(new Float32Array(2), rows[0]!, rows[1]!, rows[2]!, 1)).toThrow(
    `The models returned ${base}, ${expert} and ${antiexpert} logits; the vocabulary has 2 tokens`,
  );
});
