/**
 * The largest |difference| of a logit between two lists of logits; infinite if their shapes differ. Libraries and batch
 * sizes change logits by up to 1e-3 (test/vectors/README.md).
 */
export function largestDifference(
  actual: readonly Float32Array[],
  expected: readonly Float32Array[],
): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (const [i, logits] of actual.entries()) {
    const other = expected[i]!;
    if (logits.length !== other.length) return Number.POSITIVE_INFINITY;
    for (const [id, logit] of logits.entries()) {
      largest = Math.max(largest, Math.abs(logit - other[id]!));
    }
  }
  return largest;
}
