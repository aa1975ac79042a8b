/** Spearman's rank correlation, with mean ranks for equal values; NaN if all values of one list are equal. */
export function rankCorrelation(some: readonly number[], others: readonly number[]): number {
  const [x, y] = [ranks(some), ranks(others)];
  const mean = (some.length + 1) / 2;
  const sum = (of: (i: number) => number) => some.reduce((total, _, i) => total + of(i), 0);
  const covariance = sum((i) => (x[i]! - mean) * (y[i]! - mean));
  const spread = (of: readonly number[]) => Math.sqrt(sum((i) => (of[i]! - mean) ** 2));
  return covariance / (spread(x) * spread(y));
}

function ranks(values: readonly number[]): number[] {
  return values.map((value) => {
    const below = values.filter((other) => other < value).length;
    const equal = values.filter((other) => other === value).length;
    return below + (equal + 1) / 2;
  });
}
