import { xorshift, type Interval } from "../eval/statistics.ts";

/** Spearman's rank correlation, with mean ranks for equal values; NaN if all values of one list are equal. */
export function rankCorrelation(some: readonly number[], others: readonly number[]): number {
  const [x, y] = [ranks(some), ranks(others)];
  const mean = (some.length + 1) / 2;
  const sum = (of: (i: number) => number) => some.reduce((total, _, i) => total + of(i), 0);
  const covariance = sum((i) => (x[i]! - mean) * (y[i]! - mean));
  const spread = (of: readonly number[]) => Math.sqrt(sum((i) => (of[i]! - mean) ** 2));
  return covariance / (spread(x) * spread(y));
}

const RESAMPLES = 2_000;

/** 95% interval of `rankCorrelation`, by the bootstrap: pairs of values are drawn with replacement. */
export function rankCorrelationInterval(
  some: readonly number[],
  others: readonly number[],
): Interval {
  const random = xorshift(1);
  const correlations = Array.from({ length: RESAMPLES }, () => {
    const drawn = some.map(() => Math.floor(random() * some.length));
    return rankCorrelation(
      drawn.map((i) => some[i]!),
      drawn.map((i) => others[i]!),
    );
  });
  // A resample whose values are all equal has no correlation.
  const sorted = correlations.filter(Number.isFinite).sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.floor(share * sorted.length)] ?? NaN;
  return [at(0.025), at(0.975)];
}

function ranks(values: readonly number[]): number[] {
  return values.map((value) => {
    const below = values.filter((other) => other < value).length;
    const equal = values.filter((other) => other === value).length;
    return below + (equal + 1) / 2;
  });
}
