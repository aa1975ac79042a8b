/** Steering strength over positions. */

/** [position, alpha]; a position is the count of tokens generated before. */
export type Knot = readonly [position: number, alpha: number];

/**
 * The strength at a position: on the line between the knots around it, and level before the first and after the last.
 * @param knots at least one, by rising position
 */
export function alphaAt(knots: readonly Knot[], position: number): number {
  const next = knots.findIndex(([at]) => at > position);
  const [from, alphaFrom] = knots.at(next === -1 ? -1 : Math.max(0, next - 1))!;
  if (next <= 0) return alphaFrom;
  const [to, alphaTo] = knots[next]!;
  return alphaFrom + ((alphaTo - alphaFrom) * (position - from)) / (to - from);
}
