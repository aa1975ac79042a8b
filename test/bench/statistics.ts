/** Summaries of measured values. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** @returns null if there are no values */
export function summarize(values: readonly number[]): Summary | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), min: sorted[0]!, max: sorted.at(-1)! };
}

/**
 * Linear interpolation between the two nearest values.
 * @param sorted ascending, not empty
 * @param q from 0 to 1
 */
export function quantile(sorted: readonly number[], q: number): number {
  const position = q * (sorted.length - 1);
  const below = sorted[Math.floor(position)]!;
  return below + (position % 1) * (sorted[Math.ceil(position)]! - below);
}
