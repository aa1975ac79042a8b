/** The kernels give the bits of the loops in plain JavaScript that they stand for. */
import { expect, test } from "vitest";
import { isInside } from "../../../../../worker/engine/decode/border.ts";
import { compareDistributions } from "../../../../../worker/engine/decode/distribution-change.ts";
import { combineLogits } from "../../../../../worker/engine/decode/combine.ts";
import {
  argmax,
  expNormalize,
  extremesOf,
  logSumExp,
  wholeWeights,
} from "../../../../../worker/engine/decode/exp.ts";
import { GumbelNoise } from "../../../../../worker/engine/decode/noise.ts";
import {
  addressOf,
  doubleResults,
  doublesOf,
  floatsOf,
  kernels,
  place,
  reserve,
} from "../../../../../worker/engine/decode/simd/vectors.ts";
import { sampling } from "../../../../support/sampling.ts";
import { Sampler } from "../../../../../worker/engine/decode/sampler.ts";

/** Not multiples of the kernels' lanes; the last one makes their memory grow. */
const SIZES = [1, 2, 3, 5, 66, 1_003, 30_001];

/** Logits from a seed, a part of them masked or NaN. */
function logitsOf(size: number, seed: number): Float32Array {
  const noise = new GumbelNoise(seed);
  return Float32Array.from({ length: size }, (_, id) => {
    if (id % 17 === 5) return Number.NEGATIVE_INFINITY;
    return id % 101 === 7 ? Number.NaN : 3 * noise.at(id) - 4;
  });
}

const STEPS = 2_048;
const X_MIN = -1_020 * Math.LN2;
/** exp(x) by a table and the first terms of the series. */
function expOf(x: number, terms: 3 | 4): number {
  if (!(x > X_MIN)) return 0;
  const steps = x * (STEPS / Math.LN2);
  const step = Math.trunc(steps);
  const rest = (steps - step) * (Math.LN2 / STEPS);
  const position = ((step % STEPS) + STEPS) % STEPS;
  const factor = 2 ** ((step - position) / STEPS) * 2 ** (position / STEPS);
  const behind = terms === 3 ? 0.5 * rest : rest * (0.5 + rest * (1 / 6));
  return factor * (1 + rest * (1 + behind));
}
const inOrder = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0);

test.each(SIZES)("exp and its sums have the same bits for %d logits", (size) => {
  const logits = logitsOf(size, 1);
  const { max } = extremesOf(logits);
  const weights = Array.from(logits, (logit) => expOf(logit - max, 3));
  const out = new Float32Array(size);
  expect(expNormalize(out, logits, max)).toBe(inOrder(weights));
  expect(out).toEqual(Float32Array.from(weights));
  expect(logSumExp(logits)).toBe(max + Math.log(inOrder(weights)));
});

test.each(SIZES)("a shift and its moments have the same bits for %d logits", (size) => {
  const [base, expert, antiexpert] = [logitsOf(size, 2), logitsOf(size, 3), logitsOf(size, 4)];
  const last = { logit: base[size >> 1]!, id: size >> 1 };
  const length = reserve(size);
  const own = place(0, base);
  const models = [place(1, expert), place(2, antiexpert)] as const;
  kernels.fillShift(addressOf(3), own, ...models, length, -1, last.logit, last.id);
  const isIn = Array.from(
    base,
    (logit, id) => isInside(logit, id, last) && Number.isFinite(expert[id]! - antiexpert[id]!),
  );
  const logits = base.map((logit, id) => (isIn[id] ? logit : Number.NEGATIVE_INFINITY));
  const shift = base.map((_, id) => (isIn[id] ? antiexpert[id]! - expert[id]! : 0));
  expect(floatsOf(0, size)).toEqual(logits);
  // The kernel's 0 may be negative.
  expect(floatsOf(3, size).map((value) => value + 0)).toEqual(shift.map((value) => value + 0));
  const steered = Array.from(logits, (logit, id) => logit + 0.3 * shift[id]!);
  expect(kernels.maxTilted(own, addressOf(3), length, 0.3)).toBe(Math.max(...steered));
  kernels.tiltedMoments(own, addressOf(3), length, 0.3, 60);
  const weights = steered.map((logit) => expOf(logit - 60, 3));
  expect(Array.from(doubleResults())).toEqual([
    inOrder(weights),
    inOrder(weights.map((weight, id) => weight * shift[id]!)),
    inOrder(weights.map((weight, id) => weight * shift[id]! * shift[id]!)),
  ]);
});

test.each(SIZES)("whole weights have the same bits for %d logits", (size) => {
  const logits = logitsOf(size, 3);
  const inside = { logit: logits[size >> 1]!, id: size >> 1 };
  const { max } = extremesOf(logits);
  const exact = Array.from(logits, (own, id) =>
    own < inside.logit || (own === inside.logit && id > inside.id) ? 0 : expOf(own - max, 4),
  );
  const factor = 2 ** (52 - Math.ceil(Math.log2(inOrder(exact))));
  const whole = exact.map((weight) => Math.floor(weight * factor + 0.5));
  expect(wholeWeights(reserve(size), max, inside)).toBe(inOrder(whole));
  expect(Array.from(doublesOf(size))).toEqual(whole);
});

test.each(SIZES)("combined logits have the same bits for %d logits", (size) => {
  const [base, expert, antiexpert] = [logitsOf(size, 4), logitsOf(size, 5), logitsOf(size + 9, 6)];
  const out = new Float32Array(size);
  combineLogits(out, base, expert, antiexpert, 0.7);
  const steered = Float32Array.from(base, (own, id) => {
    const sum = own + 0.7 * (expert[id]! - antiexpert[id]!);
    return Number.isNaN(sum) ? Number.NEGATIVE_INFINITY : sum;
  });
  expect(out).toEqual(steered);
});

test.each(SIZES)("the distance and the changed tokens are the same for %d logits", (size) => {
  const finite = (seed: number) => logitsOf(size, seed).map((own) => (Number.isNaN(own) ? 0 : own));
  const [base, steered] = [finite(7), finite(8)];
  const [baseMax, steeredMax] = [Math.max(...base), Math.max(...steered)];
  const baseWeights = Array.from(base, (own) => expOf(own - baseMax, 3));
  const weights = Array.from(steered, (own) => expOf(own - steeredMax, 3));
  const [baseScale, scale] = [1 / inOrder(baseWeights), 1 / inOrder(weights)];
  const gains = weights.map((weight, id) =>
    Math.fround(weight) > 0 ? Math.fround(weight) * (steered[id]! - base[id]!) : 0,
  );
  const baseLogSum = baseMax + Math.log(inOrder(baseWeights));
  const steeredLogSum = steeredMax + Math.log(inOrder(weights));
  const kl = inOrder(gains) / inOrder(weights) - steeredLogSum + baseLogSum;
  const changes = weights.map((weight, id) => ({
    id,
    value: Math.fround(weight) * scale - Math.fround(baseWeights[id]!) * baseScale,
  }));
  const largest = (sign: number) =>
    changes
      .filter(({ value }) => value * sign > 5e-5)
      .toSorted((a, b) => sign * (b.value - a.value))
      .slice(0, 3);
  expect(compareDistributions(base, steered)).toEqual({
    baseLogSum,
    steeredLogSum,
    kl: Math.max(0, kl),
    promoted: largest(1),
    demoted: largest(-1),
  });
});

test.each(SIZES)("extremes, the largest logit and a draw are the same for %d logits", (size) => {
  const logits = logitsOf(size, 9);
  const finite = logits.filter((own) => Number.isFinite(own));
  const max = Math.max(...finite);
  expect(extremesOf(logits)).toEqual({ min: Math.min(...finite), max });
  expect(argmax(logits)).toBe(logits.indexOf(max));
  for (let seed = 0; seed < 20; seed++) {
    const noise = new GumbelNoise(seed);
    noise.seek(0);
    let [best, bestScore] = [-1, Number.NEGATIVE_INFINITY];
    for (const [id, own] of logits.entries()) {
      const score = Math.fround((own - max) / 1.3) + noise.at(id);
      if (score > bestScore) [best, bestScore] = [id, score];
    }
    const sampler = new Sampler(sampling({ temperature: 1.3, seed }), []);
    expect(sampler.sample(Float32Array.from(logits))).toBe(best);
  }
});

test("a vocabulary that is too large for the memory fails, and the next one has its room", () => {
  expect(() => reserve(2 ** 28)).toThrow(RangeError);
  expect(argmax(Float32Array.of(1, 3, 2))).toBe(1);
  expect(doublesOf(reserve(8))).toHaveLength(8);
});
