/** Statistical tests of random draws. The draws are seeded, so the result is the same on every run. */

/**
 * Pearson's statistic of counts against expected counts, in standard deviations above its mean (normal
 * approximation). By chance it exceeds 4 about once in 10,000 tries.
 */
export function chiSquareExcess(observed: readonly number[], expected: readonly number[]): number {
  const degrees = observed.length - 1;
  const statistic = observed.reduce(
    (sum, count, i) => sum + (count - expected[i]!) ** 2 / expected[i]!,
    0,
  );
  return (statistic - degrees) / Math.sqrt(2 * degrees);
}

/** Kolmogorov-Smirnov distance of samples from the uniform distribution, times sqrt(n); 1.95 is p = 0.001. */
export function uniformDistance(samples: readonly number[]): number {
  const n = samples.length;
  const distances = samples
    .toSorted((a, b) => a - b)
    .map((value, i) => Math.max(value - i / n, (i + 1) / n - value));
  return Math.max(...distances) * Math.sqrt(n);
}

/** Pearson's correlation, times sqrt(n): a standard normal variable for independent samples. */
export function correlation(a: readonly number[], b: readonly number[]): number {
  const [meanA, meanB] = [mean(a), mean(b)];
  const covariance = mean(a.map((value, i) => (value - meanA) * (b[i]! - meanB)));
  const varianceA = mean(a.map((value) => (value - meanA) ** 2));
  const varianceB = mean(b.map((value) => (value - meanB) ** 2));
  return (covariance / Math.sqrt(varianceA * varianceB)) * Math.sqrt(a.length);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
