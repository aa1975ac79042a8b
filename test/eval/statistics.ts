/** Percentages and the error of an estimate, by the bootstrap: resample the items, look how far the figure moves. */

/** [2.5th, 97.5th] percentile. */
export type Interval = readonly [low: number, high: number];

const RESAMPLES = 2_000;

export function percent(marks: readonly boolean[]): number {
  return (100 * marks.filter(Boolean).length) / marks.length;
}

/**
 * 95% interval of a figure that is computed from per-item marks of several systems. Items are drawn together for all
 * systems, so what is easy for one is easy for the others: a paired comparison.
 * @param figure gets the percentage of each system on one resample
 */
export function interval(
  systems: readonly (readonly boolean[])[],
  figure: (percents: readonly number[]) => number,
): Interval {
  const size = systems[0]!.length;
  const random = xorshift(1);
  const figures = Array.from({ length: RESAMPLES }, () => {
    const hits = systems.map(() => 0);
    for (let draw = 0; draw < size; draw++) {
      const item = Math.floor(random() * size);
      for (let s = 0; s < systems.length; s++) if (systems[s]![item]) hits[s]! += 1;
    }
    return figure(hits.map((count) => (100 * count) / size));
  }).sort((a, b) => a - b);
  return [figures[Math.floor(0.025 * RESAMPLES)]!, figures[Math.floor(0.975 * RESAMPLES)]!];
}

/** Uniform numbers in [0, 1): Marsaglia's xorshift32, seeded so that a table can be repeated. */
function xorshift(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
