/** Exponentials, sums and extremes over a whole vocabulary, by the kernels of simd/. */
import { NO_BORDER, type Border } from "./border.ts";
import {
  addressOf,
  doublesAddress,
  floatResults,
  kernels,
  place,
  read,
  reserve,
} from "./simd/vectors.ts";

/**
 * Writes exp(value - max) to `out` and returns their sum; `out` divided by the sum is the softmax.
 * @param out [V]
 * @param values [V] logits; -Infinity and NaN give 0
 * @param max the largest value, so that no exp overflows
 */
export function expNormalize(out: Float32Array, values: Float32Array, max: number): number {
  const length = reserve(values.length);
  const sum = kernels.expFloats(addressOf(1), place(0, values), length, max);
  read(out, 1);
  return sum;
}

/**
 * Writes exp(logit - max) as whole numbers into the vector of doubles, scaled so that their sum has 52 bits. Whole numbers have the
 * same sum in any order, so a distribution is cut at the same token however its mass is added up.
 * @param logits [V] in the first vector; -Infinity and NaN give 0
 * @param inside tokens outside of it get 0; null for none
 * @returns the sum; 0 if no logit is finite
 */
export function wholeWeights(length: number, max: number, inside: Border | null): number {
  const [out, logits] = [doublesAddress(), addressOf(0)];
  const { logit, id } = inside ?? NO_BORDER;
  const sum = kernels.expDoubles(out, logits, length, max, logit, id);
  if (sum === 0) return 0;
  return kernels.roundWeights(out, length, 2 ** (52 - Math.ceil(Math.log2(sum))));
}

export interface Extremes {
  /** The smallest value above -Infinity; Infinity if there is none. */
  readonly min: number;
  /** The largest value; -Infinity if there is none. */
  readonly max: number;
}

/** NaN is ignored. @param vector of simd/ in which the values are afterwards */
export function extremesOf(values: Float32Array, vector: 0 | 1 = 0): Extremes {
  const length = reserve(values.length);
  kernels.extremes(place(vector, values), length);
  const results = floatResults();
  let [min, max] = [results[0]!, results[4]!];
  for (let lane = 1; lane < 4; lane++) {
    min = Math.min(min, results[lane]!);
    max = Math.max(max, results[4 + lane]!);
  }
  return { min, max };
}

/** The largest value; NaN is ignored. -Infinity if there is none. */
export const maxOf = (values: Float32Array): number => extremesOf(values).max;

/** Index of the largest value, of equal ones the first; NaN is ignored. */
export function argmax(values: Float32Array): number {
  return firstOf(values, extremesOf(values).max);
}

/** The first token with the largest value, after `extremesOf`; 0 if that is -Infinity. */
export function firstOf(values: Float32Array, max: number): number {
  if (max === Number.NEGATIVE_INFINITY) return 0;
  return kernels.findAtLeast(addressOf(0), 0, reserve(values.length), max);
}

/** The logarithm of the sum of exp(value), in nats. A logit minus this is its log-probability. */
export function logSumExp(values: Float32Array): number {
  const { max } = extremesOf(values);
  return max + Math.log(kernels.expSum(addressOf(0), reserve(values.length), max));
}
