/**
 * Largest |difference| of a logit between two lists of rows, infinite where their shapes differ. Up to 1e-3 is what
 * libraries and batch sizes change (test/vectors/README.md).
 */
export function largestDifference(
  rows: readonly Float32Array[],
  expected: readonly Float32Array[],
): number {
  if (rows.length !== expected.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (const [i, row] of rows.entries()) {
    const other = expected[i]!;
    if (row.length !== other.length) return Number.POSITIVE_INFINITY;
    for (const [id, logit] of row.entries()) {
      largest = Math.max(largest, Math.abs(logit - other[id]!));
    }
  }
  return largest;
}
