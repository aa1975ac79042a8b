/**
 * The most that unseen tokens can weigh together. Their probabilities under the base are p_v <= c, and their sum is at most
 * m * c (c: the largest probability of one; m: `unseenAtBound`). A token's weight in the sampled distribution is
 * exp(u_v) * (p_v / c)^e with e = 1 / temperature: at p_v = c it has its upper bound.
 */
import type { PartialDraw } from "./certificate.ts";

/**
 * Weights are counted by their logarithm in steps of 1 / 256, because sorting a large vocabulary takes longer than a draw. A sum
 * of weights is then up to 0.4% too large, and never too small.
 */
const STEPS = 256;
/** Tokens that are more nats below the largest one count as if they were so many below it. */
const RANGE = 32;

/**
 * - e >= 1 (temperature at most 1): (p / c)^e <= p / c, so the sum is at most the largest value of sum(x_v * exp(u_v)) with
 *   0 <= x_v <= 1 and sum(x_v) <= m, which is the sum of the m largest weights, the last of them in part. A repetition
 *   penalty above 1 makes the exponent larger where it multiplies a negative logit, and the bound stays.
 * - e < 1: by Hölder's inequality the sum is at most (sum exp(u_v / (1 - e)))^(1 - e) * m^e.
 * - In any case it is at most the sum of all weights. Only this holds if a penalty makes exponents smaller or different.
 *
 * @param logs logarithms u of the tokens' largest weights; -Infinity for tokens that do not count
 * @param isNegative whether no token's logit can be so large that the repetition penalty divides it
 * @param least only tokens with this u or a larger one count
 */
export function unseenWeightMax(
  logs: Float32Array | Float64Array,
  {
    unseenAtBound,
    temperature,
    penalty,
  }: Pick<PartialDraw, "unseenAtBound" | "temperature" | "penalty">,
  isNegative: boolean,
  least = Number.NEGATIVE_INFINITY,
): number {
  const { counts, max, size } = histogram(logs, least);
  if (size === 0) return 0;
  const count = Math.min(size, unseenAtBound);
  const exponent = 1 / (temperature === 0 ? 1 : temperature);
  if (exponent >= 1 && (penalty === 1 || (penalty > 1 && isNegative))) {
    return largestWeights(counts, max, count);
  }
  const all = largestWeights(counts, max, size);
  if (penalty !== 1 || exponent >= 1) return all;
  let sum = 0;
  for (const [step, tokens] of counts.entries()) {
    if (tokens > 0) sum += tokens * Math.exp(-step / STEPS / (1 - exponent));
  }
  return Math.min(all, Math.exp(max) * sum ** (1 - exponent) * count ** exponent);
}

/** Counts the tokens by the distance of their u to the largest one, rounded down. */
function histogram(
  logs: Float32Array | Float64Array,
  least: number,
): { counts: Uint32Array; max: number; size: number } {
  const counts = new Uint32Array(RANGE * STEPS + 1);
  let [max, size] = [Number.NEGATIVE_INFINITY, 0];
  for (let i = 0; i < logs.length; i++) if (logs[i]! > max) max = logs[i]!;
  for (let i = 0; i < logs.length; i++) {
    const log = logs[i]!;
    if (log === Number.NEGATIVE_INFINITY || log < least) continue;
    const step = Math.min(RANGE * STEPS, ((max - log) * STEPS) | 0);
    counts[step] = counts[step]! + 1;
    size++;
  }
  return { counts, max, size };
}

/** The sum of the `count` largest weights; of the last one only the fraction. */
function largestWeights(counts: Uint32Array, max: number, count: number): number {
  let [sum, left] = [0, count];
  for (let step = 0; step < counts.length && left > 0; step++) {
    const tokens = Math.min(left, counts[step]!);
    if (tokens === 0) continue;
    sum += tokens * Math.exp(max - step / STEPS);
    left -= tokens;
  }
  return sum;
}
