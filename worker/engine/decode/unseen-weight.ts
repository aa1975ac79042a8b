/**
 * The most that unseen tokens can weigh together. Their probabilities under the base are p_v <= c, and their sum is at most
 * m * c (c: the largest probability of one; m: `unseenAtBound`). A token's weight in the sampled distribution is
 * exp(u_v) * (p_v / c)^e with e = 1 / temperature: at p_v = c it has its upper bound.
 */
import type { PartialDraw } from "./certificate.ts";

/**
 * - e >= 1 (temperature at most 1): (p / c)^e <= p / c, so the sum is at most the largest value of sum(x_v * exp(u_v)) with
 *   0 <= x_v <= 1 and sum(x_v) <= m, which is the sum of the m largest weights, the last of them in part. A repetition
 *   penalty above 1 makes the exponent larger where it multiplies a negative logit, and the bound stays.
 * - e < 1: by Hölder's inequality the sum is at most (sum exp(u_v / (1 - e)))^(1 - e) * m^e.
 * - In any case it is at most the sum of all weights. Only this holds if a penalty makes exponents smaller or different.
 *
 * @param logs logarithms u of the tokens' largest weights; overwritten (sorted)
 * @param isNegative whether no token's logit can be so large that the repetition penalty divides it
 */
export function unseenWeightMax(
  logs: Float64Array,
  {
    unseenAtBound,
    temperature,
    penalty,
  }: Pick<PartialDraw, "unseenAtBound" | "temperature" | "penalty">,
  isNegative: boolean,
): number {
  if (logs.length === 0) return 0;
  const count = Math.min(logs.length, unseenAtBound);
  const exponent = 1 / (temperature === 0 ? 1 : temperature);
  if (exponent >= 1 && (penalty === 1 || (penalty > 1 && isNegative))) {
    return largestWeights(logs, count);
  }
  let [all, max] = [0, Number.NEGATIVE_INFINITY];
  for (const log of logs) {
    all += Math.exp(log);
    max = Math.max(max, log);
  }
  if (penalty !== 1 || exponent >= 1) return all;
  let sum = 0;
  for (const log of logs) sum += Math.exp((log - max) / (1 - exponent));
  return Math.min(all, Math.exp(max) * sum ** (1 - exponent) * count ** exponent);
}

/** The sum of the `count` largest weights; of the last one only the fraction. */
function largestWeights(logs: Float64Array, count: number): number {
  logs.sort();
  let [sum, left] = [0, count];
  for (let i = logs.length - 1; i >= 0 && left > 0; i--, left--) {
    sum += Math.min(1, left) * Math.exp(logs[i]!);
  }
  return sum;
}
