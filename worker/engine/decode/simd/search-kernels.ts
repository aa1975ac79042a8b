/** Kernels that find tokens: by their logit, their bin in a histogram, their noise, or their change. As in kernels.ts. */
import {
  f32x4,
  f64,
  f64x2,
  i32,
  i32x4,
  kernelOf,
  repeat,
  returned,
  v128,
  when,
  type Code,
  type Kernel,
  type Local,
} from "./assembler.ts";
import { float, fourFloats, twoDoubles } from "./kernels.ts";
import { BINS, EVEN_BINS, ODD_BINS } from "./layout.ts";

/** Searches compare in 32 bits, whose errors are far smaller than these margins: no token is skipped wrongly. */
const CHANGE_MARGIN = 1e-6;
const NOISE_MARGIN = 1.001;

/**
 * Returns the first token from `from` on among four, if there is one.
 * @param at starts at or before `from` @param bits those of the tokens that are found
 */
function returnFirst(kernel: Kernel, at: Local, from: Local, bits: Code): Code {
  const found = kernel.local("i32");
  const skipped = i32.shl(i32.const(0b1111), i32.sub(from.get, at.get));
  return [
    ...found.set(bits),
    ...when(i32.ltU(at.get, from.get), found.set(i32.and(found.get, skipped))),
    ...when(found.get, returned(i32.add(at.get, i32.ctz(found.get)))),
  ];
}
/** The first of the four tokens that are looked at together with a token. */
const firstOfFour = (token: Local): Code => i32.and(token.get, i32.const(-4));

/** The first token from `from` on with a logit that is larger than the threshold, or equal if wanted; `length` or more if there is none. */
const find = (isFound: (own: Code, threshold: Code) => Code) =>
  kernelOf(
    { values: "i32", from: "i32", length: "i32", threshold: "f64" },
    "i32",
    ({ values, from, length, threshold }, kernel) => {
      const [at, mask] = [kernel.local("i32"), kernel.local("v128")];
      const limit = kernel.constant(f32x4.splat(threshold.get));
      return [
        at.set(firstOfFour(from)),
        repeat(
          at,
          4,
          length.get,
          mask.set(isFound(fourFloats(values, at), limit)),
          when(v128.anyTrue(mask.get), returnFirst(kernel, at, from, i32x4.bitmask(mask.get))),
        ),
        length.get,
      ];
    },
  );

/**
 * The first token from `from` on whose change of probability is above `max` or below `min`. A probability is weight * scale. Some tokens
 * that change by a little less are found too.
 */
const findChange = kernelOf(
  {
    ...({ weights: "i32", others: "i32", from: "i32", length: "i32" } as const),
    ...({ scale: "f64", otherScale: "f64", max: "f64", min: "f64" } as const),
  },
  "i32",
  ({ weights, others, from, length, scale, otherScale, max, min }, kernel) => {
    const [at, change, mask] = [kernel.local("i32"), kernel.local("v128"), kernel.local("v128")];
    const number = (value: Code) => kernel.constant(f32x4.splat(value));
    const [own, other, margin] = [
      number(scale.get),
      number(otherScale.get),
      number(f64.const(CHANGE_MARGIN)),
    ];
    const high = kernel.constant(f32x4.sub(number(max.get), margin));
    const low = kernel.constant(f32x4.add(number(min.get), margin));
    return [
      at.set(firstOfFour(from)),
      repeat(
        at,
        4,
        length.get,
        change.set(
          f32x4.sub(
            f32x4.mul(fourFloats(weights, at), own),
            f32x4.mul(fourFloats(others, at), other),
          ),
        ),
        mask.set(v128.or(f32x4.gt(change.get, high), f32x4.lt(change.get, low))),
        when(v128.anyTrue(mask.get), returnFirst(kernel, at, from, i32x4.bitmask(mask.get))),
      ),
      length.get,
    ];
  },
);

/**
 * Bins of four tokens as integers: (value - low) * factor, rounded to one from 0 to the last bin; 0 for NaN. In 32 bits: of two logits
 * the larger one never has the smaller bin, which is all that counts.
 */
function binsOf(kernel: Kernel, low: Local, factor: Local): (own: Code) => Code {
  const number = (value: Code) => kernel.constant(f32x4.splat(value));
  const [lowest, scaling] = [number(low.get), number(factor.get)];
  const [first, last] = [number(f64.const(0)), number(f64.const(BINS - 1))];
  // With 2^23 added, the low bits of a float of whole value are those of the integer.
  const toInteger = number(f64.const(2 ** 23));
  const bits = kernel.constant(i32x4.splat(i32.const(BINS - 1)));
  return (own) => {
    const bin = f32x4.mul(f32x4.sub(own, lowest), scaling);
    const bounded = f32x4.pmin(last, f32x4.pmax(first, bin));
    return v128.and(f32x4.add(bounded, toInteger), bits);
  };
}

/** Adds the weights to the bins of their tokens. */
const histogram = kernelOf(
  { values: "i32", weights: "i32", length: "i32", low: "f64", factor: "f64" },
  null,
  ({ values, weights, length, low, factor }, kernel) => {
    const [addresses, weight, address] = [
      kernel.local("v128"),
      kernel.local("v128"),
      kernel.local("i32"),
    ];
    const at = kernel.local("i32");
    const binOf = binsOf(kernel, low, factor);
    const add = (lane: number, table: number) => [
      ...address.set(i32x4.extractLane(lane, addresses.get)),
      ...f64.store(
        address.get,
        table,
        f64.add(f64.load(address.get, table), f64x2.extractLane(lane & 1, weight.get)),
      ),
    ];
    return [
      repeat(
        at,
        4,
        length.get,
        addresses.set(i32x4.shl(binOf(fourFloats(values, at)), i32.const(3))),
        weight.set(twoDoubles(weights, at, 0)),
        add(0, EVEN_BINS),
        add(1, ODD_BINS),
        weight.set(twoDoubles(weights, at, 1)),
        add(2, EVEN_BINS),
        add(3, ODD_BINS),
      ),
    ];
  },
);

/** Writes the tokens of a bin to `out` in order, as 32-bit integers; their number. */
const tokensInBin = kernelOf(
  { out: "i32", values: "i32", length: "i32", low: "f64", factor: "f64", bin: "i32" },
  "i32",
  ({ out, values, length, low, factor, bin }, kernel) => {
    const [at, count, found] = [kernel.local("i32"), kernel.local("i32"), kernel.local("i32")];
    const binOf = binsOf(kernel, low, factor);
    const wanted = kernel.constant(i32x4.splat(bin.get));
    const append = (lane: number) =>
      when(
        i32.and(found.get, i32.const(1 << lane)),
        i32.store(float(out, count), 0, i32.add(at.get, i32.const(lane))),
        count.set(i32.add(count.get, i32.const(1))),
      );
    return [
      repeat(
        at,
        4,
        length.get,
        found.set(i32x4.bitmask(i32x4.eq(binOf(fourFloats(values, at)), wanted))),
        when(found.get, ...[0, 1, 2, 3].map(append)),
      ),
      count.get,
    ];
  },
);

/**
 * The first token from `from` on whose logit plus noise may exceed the best score; a logit below `min` is skipped. The noise is that
 * of noise.ts, and it is bounded as in `GumbelNoise.above`.
 */
const findContender = kernelOf(
  { values: "i32", from: "i32", length: "i32", min: "f64", best: "f64", key: "i32" },
  "i32",
  ({ values, from, length, min, best, key }, kernel) => {
    const vector = () => kernel.local("v128");
    const [own, hash, floor, isOut, products] = [vector(), vector(), vector(), vector(), vector()];
    const at = kernel.local("i32");
    const number = (value: Code) => kernel.constant(f32x4.splat(value));
    const integer = (value: number) => kernel.constant(i32x4.splat(i32.const(value | 0)));
    const [border, score] = [number(min.get), number(best.get)];
    const keys = kernel.constant(i32x4.splat(key.get));
    const [zero, one, half, sixth] = [0, 1, 1 / 2, 1 / 6].map((value) => number(f64.const(value)));
    const [unit, margin] = [number(f64.const(2 ** -26)), number(f64.const(NOISE_MARGIN))];
    const [tokens, factor] = [kernel.constant(v128.const(0, 1, 2, 3)), integer(0x9e3779b1)];
    const [firstMix, secondMix] = [integer(0x85ebca6b), integer(0xc2b2ae35)];
    const fourFactors = integer(4 * 0x9e3779b1);
    const mixShift = (bits: number) =>
      hash.set(v128.xor(hash.get, i32x4.shrU(hash.get, i32.const(bits))));
    const complement = f32x4.mul(
      f32x4.convertI32x4(i32x4.shrU(v128.not(hash.get), i32.const(6))),
      unit,
    );
    const cubic = f32x4.add(half!, f32x4.mul(floor.get, sixth!));
    const terms = f32x4.add(
      one!,
      f32x4.mul(floor.get, f32x4.add(one!, f32x4.mul(floor.get, cubic))),
    );
    const isPossible = v128.not(isOut.get);
    return [
      at.set(firstOfFour(from)),
      products.set(i32x4.mul(i32x4.add(i32x4.splat(at.get), tokens), factor)),
      repeat(
        at,
        4,
        length.get,
        own.set(fourFloats(values, at)),
        isOut.set(f32x4.lt(own.get, border)),
        when(
          v128.anyTrue(isPossible),
          hash.set(v128.xor(products.get, keys)),
          mixShift(16),
          hash.set(i32x4.mul(hash.get, firstMix)),
          mixShift(13),
          hash.set(i32x4.mul(hash.get, secondMix)),
          mixShift(16),
          floor.set(f32x4.max(f32x4.sub(score, own.get), zero!)),
          isOut.set(v128.or(isOut.get, f32x4.gt(f32x4.mul(complement, terms), margin))),
          when(v128.anyTrue(isPossible), returnFirst(kernel, at, from, i32x4.bitmask(isPossible))),
        ),
        products.set(i32x4.add(products.get, fourFactors)),
      ),
      length.get,
    ];
  },
);

export const SEARCHES = {
  findAbove: find((own, threshold) => f32x4.gt(own, threshold)),
  findAtLeast: find((own, threshold) => f32x4.ge(own, threshold)),
  findChange,
  histogram,
  tokensInBin,
  findContender,
};
