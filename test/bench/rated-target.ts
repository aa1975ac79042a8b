/** A target of a benchmark, judged by its worst measurement. */

export interface RatedTarget {
  readonly name: string;
  /** The worst value of all measurements that the target is about; infinite if there are none. */
  readonly measured: number;
  readonly limit: string;
  readonly isMet: boolean;
}

export function atMost(name: string, values: readonly number[], limit: number): RatedTarget {
  const measured = Math.max(...values);
  return { name, measured, limit: `at most ${limit}`, isMet: measured <= limit };
}

export function atLeast(name: string, values: readonly number[], limit: number): RatedTarget {
  const measured = Math.min(...values);
  return { name, measured, limit: `at least ${limit}`, isMet: measured >= limit };
}

export function printTargets(targets: readonly RatedTarget[]): void {
  for (const { name, measured, limit, isMet } of targets) {
    console.log(`${isMet ? "met   " : "missed"} ${name}: ${measured.toFixed(2)} (${limit})`);
  }
}
