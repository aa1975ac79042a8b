/**
 * The loops over a vocabulary as WebAssembly with SIMD, several times faster than the same loops in JavaScript. Each does the
 * operations of the loop in its comment, in double precision and in the same order, so the results have the same bits on every machine.
 * Lengths are multiples of 4 and above 0; addresses are in bytes. vectors.ts calls the kernels.
 */
import {
  f32x4,
  f64,
  f64x2,
  i32,
  kernelOf,
  repeat,
  v128,
  type Code,
  type Kernel,
  type Local,
} from "./assembler.ts";
import { expCode } from "./exp-code.ts";
import { EXP_TABLE, RESULTS } from "./layout.ts";

const FLOAT_LOG2 = 2;
const DOUBLE_LOG2 = 3;

/** Address of the item `at` of a vector. */
const item = (vector: Local, at: Local, bytesLog2: number): Code =>
  i32.add(vector.get, i32.shl(at.get, i32.const(bytesLog2)));
export const float = (vector: Local, at: Local): Code => item(vector, at, FLOAT_LOG2);
export const fourFloats = (vector: Local, at: Local): Code => v128.load(float(vector, at), 0);
/** Two floats as doubles: the first two of four, or the other two. */
const twoFloats = (vector: Local, at: Local, pair: 0 | 1): Code =>
  f64x2.promoteLow(v128.load64Zero(float(vector, at), pair << (FLOAT_LOG2 + 1)));
export const twoDoubles = (vector: Local, at: Local, pair: 0 | 1): Code =>
  v128.load(item(vector, at, DOUBLE_LOG2), pair << (DOUBLE_LOG2 + 1));
const storeDoubles = (vector: Local, at: Local, pair: 0 | 1, doubles: Code): Code =>
  v128.store(item(vector, at, DOUBLE_LOG2), pair << (DOUBLE_LOG2 + 1), doubles);
const storeAsFloats = (vector: Local, at: Local, pair: 0 | 1, doubles: Code): Code =>
  v128.store64Lane(0, float(vector, at), pair << (FLOAT_LOG2 + 1), f32x4.demote(doubles));

/** A number twice, as two doubles. */
const twice = (kernel: Kernel, value: Code): Code => kernel.constant(f64x2.splat(value));
/** Statements for each four items: once for the first two, once for the others. */
function repeatPairs(
  kernel: Kernel,
  length: Local,
  statements: (at: Local, pair: 0 | 1) => readonly Code[],
): Code {
  const at = kernel.local("i32");
  return repeat(at, 4, length.get, ...statements(at, 0), ...statements(at, 1));
}
/** Adds two doubles to a sum, one after the other. */
const addBoth = (sum: Local, doubles: Code): Code =>
  sum.set(f64.add(f64.add(sum.get, f64x2.extractLane(0, doubles)), f64x2.extractLane(1, doubles)));

/** out = base + alpha * (expert - antiexpert); NaN becomes -Infinity. */
const combine = kernelOf(
  { out: "i32", base: "i32", expert: "i32", antiexpert: "i32", length: "i32", alpha: "f64" },
  null,
  ({ out, base, expert, antiexpert, length, alpha }, kernel) => {
    const sum = kernel.local("v128");
    const strength = twice(kernel, alpha.get);
    const masked = twice(kernel, f64.const(Number.NEGATIVE_INFINITY));
    return [
      repeatPairs(kernel, length, (at, pair) => {
        const shift = f64x2.sub(twoFloats(expert, at, pair), twoFloats(antiexpert, at, pair));
        const steered = f64x2.add(twoFloats(base, at, pair), f64x2.mul(strength, shift));
        const own = v128.bitselect(sum.get, masked, f64x2.eq(sum.get, sum.get));
        return [sum.set(steered), storeAsFloats(out, at, pair, own)];
      }),
    ];
  },
);

/** Results: four minima of the values above -Infinity, then four maxima; NaN is ignored. */
const extremes = kernelOf({ values: "i32", length: "i32" }, null, ({ values, length }, kernel) => {
  const at = kernel.local("i32");
  const [own, min, max] = [kernel.local("v128"), kernel.local("v128"), kernel.local("v128")];
  const lowest = kernel.constant(f32x4.splat(f64.const(Number.NEGATIVE_INFINITY)));
  const highest = kernel.constant(f32x4.splat(f64.const(Number.POSITIVE_INFINITY)));
  const finite = v128.bitselect(own.get, highest, f32x4.gt(own.get, lowest));
  return [
    min.set(highest),
    max.set(lowest),
    repeat(
      at,
      4,
      length.get,
      own.set(fourFloats(values, at)),
      max.set(f32x4.pmax(max.get, own.get)),
      min.set(f32x4.pmin(min.get, finite)),
    ),
    v128.store(i32.const(RESULTS), 0, min.get),
    v128.store(i32.const(RESULTS), 16, max.get),
  ];
});

/** value = (value - max) / temperature. */
const scale = kernelOf(
  { values: "i32", length: "i32", max: "f64", temperature: "f64" },
  null,
  ({ values, length, max, temperature }, kernel) => {
    const [maxPair, divisor] = [twice(kernel, max.get), twice(kernel, temperature.get)];
    return [
      repeatPairs(kernel, length, (at, pair) => {
        const scaled = f64x2.div(f64x2.sub(twoFloats(values, at, pair), maxPair), divisor);
        return [storeAsFloats(values, at, pair, scaled)];
      }),
    ];
  },
);

/** out = exp(value - max); the sum of the doubles that `out` has rounded. */
const expFloats = kernelOf(
  { out: "i32", values: "i32", length: "i32", max: "f64" },
  "f64",
  ({ out, values, length, max }, kernel) => {
    const sum = kernel.local("f64");
    const maxPair = twice(kernel, max.get);
    const exp = expCode(kernel, EXP_TABLE, 3);
    return [
      repeatPairs(kernel, length, (at, pair) => [
        exp.of(f64x2.sub(twoFloats(values, at, pair), maxPair)),
        storeAsFloats(out, at, pair, exp.result),
        addBoth(sum, exp.result),
      ]),
      sum.get,
    ];
  },
);

/** The sum of exp(value - max). */
const expSum = kernelOf(
  { values: "i32", length: "i32", max: "f64" },
  "f64",
  ({ values, length, max }, kernel) => {
    const sum = kernel.local("f64");
    const maxPair = twice(kernel, max.get);
    const exp = expCode(kernel, EXP_TABLE, 3);
    return [
      repeatPairs(kernel, length, (at, pair) => [
        exp.of(f64x2.sub(twoFloats(values, at, pair), maxPair)),
        addBoth(sum, exp.result),
      ]),
      sum.get,
    ];
  },
);

/** out = exp(value - max), 0 for tokens behind the border (a logit and an id); the sum. */
const expDoubles = kernelOf(
  { out: "i32", values: "i32", length: "i32", max: "f64", min: "f64", lastId: "f64" },
  "f64",
  ({ out, values, length, max, min, lastId }, kernel) => {
    const [own, weight, ids] = [kernel.local("v128"), kernel.local("v128"), kernel.local("v128")];
    const sum = kernel.local("f64");
    const maxPair = twice(kernel, max.get);
    const [border, last] = [twice(kernel, min.get), twice(kernel, lastId.get)];
    const two = twice(kernel, f64.const(2));
    const exp = expCode(kernel, EXP_TABLE, 4);
    const isBehind = v128.or(
      f64x2.lt(own.get, border),
      v128.and(f64x2.eq(own.get, border), f64x2.gt(ids.get, last)),
    );
    return [
      ids.set(f64x2.convertLowI32x4(v128.const(0, 1, 0, 0))),
      repeatPairs(kernel, length, (at, pair) => [
        own.set(twoFloats(values, at, pair)),
        exp.of(f64x2.sub(own.get, maxPair)),
        weight.set(v128.andnot(exp.result, isBehind)),
        storeDoubles(out, at, pair, weight.get),
        addBoth(sum, weight.get),
        ids.set(f64x2.add(ids.get, two)),
      ]),
      sum.get,
    ];
  },
);

/** weight = floor(weight * factor + 0.5); the sum, which is exact in any order. */
const roundWeights = kernelOf(
  { weights: "i32", length: "i32", factor: "f64" },
  "f64",
  ({ weights, length, factor }, kernel) => {
    const [whole, sums] = [kernel.local("v128"), kernel.local("v128")];
    const [scaling, half] = [twice(kernel, factor.get), twice(kernel, f64.const(0.5))];
    return [
      repeatPairs(kernel, length, (at, pair) => {
        const scaled = f64x2.add(f64x2.mul(twoDoubles(weights, at, pair), scaling), half);
        return [
          whole.set(f64x2.floor(scaled)),
          storeDoubles(weights, at, pair, whole.get),
          sums.set(f64x2.add(sums.get, whole.get)),
        ];
      }),
      f64.add(f64x2.extractLane(0, sums.get), f64x2.extractLane(1, sums.get)),
    ];
  },
);

/** The sum of weight * (value - other) over the tokens with a weight above 0. */
const weightedGain = kernelOf(
  { weights: "i32", values: "i32", others: "i32", length: "i32" },
  "f64",
  ({ weights, values, others, length }, kernel) => {
    const [weight, gain] = [kernel.local("v128"), kernel.local("v128")];
    const sum = kernel.local("f64");
    const zero = twice(kernel, f64.const(0));
    return [
      repeatPairs(kernel, length, (at, pair) => {
        const change = f64x2.sub(twoFloats(values, at, pair), twoFloats(others, at, pair));
        const product = f64x2.mul(weight.get, change);
        return [
          weight.set(twoFloats(weights, at, pair)),
          gain.set(v128.and(product, f64x2.gt(weight.get, zero))),
          addBoth(sum, gain.get),
        ];
      }),
      sum.get,
    ];
  },
);

/**
 * shift = sign * (expert - antiexpert). Where that is not finite, and behind the border (a logit and an id), the shift becomes 0 and the
 * base -Infinity.
 */
const fillShift = kernelOf(
  {
    ...({ shift: "i32", base: "i32", expert: "i32", antiexpert: "i32", length: "i32" } as const),
    ...({ sign: "f64", min: "f64", lastId: "f64" } as const),
  },
  null,
  ({ shift, base, expert, antiexpert, length, sign, min, lastId }, kernel) => {
    const vector = () => kernel.local("v128");
    const [own, difference, isIn, ids] = [vector(), vector(), vector(), vector()];
    const factor = twice(kernel, sign.get);
    const [border, last] = [twice(kernel, min.get), twice(kernel, lastId.get)];
    const [zero, two] = [twice(kernel, f64.const(0)), twice(kernel, f64.const(2))];
    const masked = twice(kernel, f64.const(Number.NEGATIVE_INFINITY));
    const isBefore = v128.or(
      f64x2.gt(own.get, border),
      v128.and(f64x2.eq(own.get, border), f64x2.le(ids.get, last)),
    );
    const isFinite = f64x2.eq(f64x2.sub(difference.get, difference.get), zero);
    return [
      ids.set(f64x2.convertLowI32x4(v128.const(0, 1, 0, 0))),
      repeatPairs(kernel, length, (at, pair) => [
        own.set(twoFloats(base, at, pair)),
        difference.set(
          f64x2.mul(
            factor,
            f64x2.sub(twoFloats(expert, at, pair), twoFloats(antiexpert, at, pair)),
          ),
        ),
        isIn.set(v128.and(isBefore, isFinite)),
        storeAsFloats(base, at, pair, v128.bitselect(own.get, masked, isIn.get)),
        storeAsFloats(shift, at, pair, v128.and(difference.get, isIn.get)),
        ids.set(f64x2.add(ids.get, two)),
      ]),
    ];
  },
);

/** The largest base + strength * shift; NaN is ignored. */
const maxTilted = kernelOf(
  { base: "i32", shift: "i32", length: "i32", strength: "f64" },
  "f64",
  ({ base, shift, length, strength }, kernel) => {
    const max = kernel.local("v128");
    const factor = twice(kernel, strength.get);
    return [
      max.set(f64x2.splat(f64.const(Number.NEGATIVE_INFINITY))),
      repeatPairs(kernel, length, (at, pair) => {
        const shifted = f64x2.mul(factor, twoFloats(shift, at, pair));
        return [max.set(f64x2.pmax(max.get, f64x2.add(twoFloats(base, at, pair), shifted)))];
      }),
      f64.max(f64x2.extractLane(0, max.get), f64x2.extractLane(1, max.get)),
    ];
  },
);

/** Results: the sums of w, w * shift and w * shift^2, where w = exp(base + strength * shift - max). */
const tiltedMoments = kernelOf(
  { base: "i32", shift: "i32", length: "i32", strength: "f64", max: "f64" },
  null,
  ({ base, shift, length, strength, max }, kernel) => {
    const [own, first, second] = [kernel.local("v128"), kernel.local("v128"), kernel.local("v128")];
    const sums = [kernel.local("f64"), kernel.local("f64"), kernel.local("f64")] as const;
    const [factor, maxPair] = [twice(kernel, strength.get), twice(kernel, max.get)];
    const exp = expCode(kernel, EXP_TABLE, 3);
    return [
      repeatPairs(kernel, length, (at, pair) => {
        const logit = f64x2.add(twoFloats(base, at, pair), f64x2.mul(factor, own.get));
        return [
          own.set(twoFloats(shift, at, pair)),
          exp.of(f64x2.sub(logit, maxPair)),
          first.set(f64x2.mul(exp.result, own.get)),
          second.set(f64x2.mul(first.get, own.get)),
          addBoth(sums[0], exp.result),
          addBoth(sums[1], first.get),
          addBoth(sums[2], second.get),
        ];
      }),
      ...sums.map((sum, i) => f64.store(i32.const(RESULTS), i << DOUBLE_LOG2, sum.get)),
    ];
  },
);

export const ARITHMETIC = {
  combine,
  extremes,
  scale,
  expFloats,
  expSum,
  expDoubles,
  roundWeights,
  weightedGain,
  fillShift,
  maxTilted,
  tiltedMoments,
};
