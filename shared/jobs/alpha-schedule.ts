/** Alpha schedules: the steering strength at each position of the output. */

/** A point of a schedule; a position is the count of tokens generated before it. */
export type Knot = readonly [position: number, alpha: number];

/**
 * Alpha at a position: linear between the knots around it, constant before the first and after the last.
 * @param knots at least one, by ascending position
 */
export function alphaAt(knots: readonly Knot[], position: number): number {
  const next = knots.findIndex(([at]) => at > position);
  const [from, alphaFrom] = knots.at(next === -1 ? -1 : Math.max(0, next - 1))!;
  if (next <= 0) return alphaFrom;
  const [to, alphaTo] = knots[next]!;
  return alphaFrom + ((alphaTo - alphaFrom) * (position - from)) / (to - from);
}

/** The same schedule for what is generated after a position: there the count begins at 0 again. */
export function scheduleAfter(knots: readonly Knot[], position: number): Knot[] {
  const later = knots.filter(([at]) => at > position);
  const start: Knot = [0, alphaAt(knots, position)];
  return [start, ...later.map(([at, alpha]): Knot => [at - position, alpha])];
}
