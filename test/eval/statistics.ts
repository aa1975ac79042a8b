/** Percentages, and how far off they may be. */

/** 95%. */
export type Interval = readonly [low: number, high: number];

const RESAMPLES = 2_000;

export function percent(marks: readonly boolean[]): number {
  return (100 * marks.filter(Boolean).length) / marks.length;
}

/** 95% interval of a percentage, after Wilson (1927): right also for shares near 0 and 100. */
export function wilson(marks: readonly boolean[]): Interval {
  const z = 1.96;
  const count = marks.length;
  const share = percent(marks) / 100;
  const center = share + z ** 2 / (2 * count);
  const half = z * Math.sqrt((share * (1 - share)) / count + z ** 2 / (4 * count ** 2));
  const scale = 100 / (1 + z ** 2 / count);
  return [scale * (center - half), scale * (center + half)];
}

/**
 * 95% interval of a figure computed from per-item marks of several systems, by the bootstrap: items are drawn again and
 * again, and one looks how far the figure moves. Items are drawn together for all
 * systems, so what is easy for one is easy for the others: a paired comparison.
 * @param figure gets the percentage of each system on one resample
 */
export function bootstrap(
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
