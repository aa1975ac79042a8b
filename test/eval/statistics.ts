/** Percentages and their confidence intervals. */

/** Bounds of a 95% confidence interval. */
export type Interval = readonly [low: number, high: number];

const RESAMPLES = 2_000;

/** Percentage of `true`. */
export function percentTrue(values: readonly boolean[]): number {
  return (100 * values.filter(Boolean).length) / values.length;
}

/** 95% interval of the percentage of `true`, after Wilson (1927). It is also valid near 0 and 100. */
export function wilsonInterval(values: readonly boolean[]): Interval {
  const z = 1.96;
  const count = values.length;
  const share = percentTrue(values) / 100;
  const center = share + z ** 2 / (2 * count);
  const half = z * Math.sqrt((share * (1 - share)) / count + z ** 2 / (4 * count ** 2));
  const scale = 100 / (1 + z ** 2 / count);
  // At the ends rounding would give -0 or more than 100.
  return [Math.max(0, scale * (center - half)), Math.min(100, scale * (center + half))];
}

/**
 * 95% interval of a number that is computed from the percentages of several systems, by the bootstrap: items are drawn with
 * replacement many times, and the number is computed for each resample. All systems get the same items: the comparison is
 * paired.
 * @param systems for each system whether it answered each item correctly
 * @param statistic computes the number from the percentage of each system
 */
export function bootstrapInterval(
  systems: readonly (readonly boolean[])[],
  statistic: (percents: readonly number[]) => number,
): Interval {
  const size = systems[0]!.length;
  const random = xorshift(1);
  const values = Array.from({ length: RESAMPLES }, () => {
    const hits = systems.map(() => 0);
    for (let draw = 0; draw < size; draw++) {
      const item = Math.floor(random() * size);
      for (let s = 0; s < systems.length; s++) if (systems[s]![item]) hits[s]! += 1;
    }
    return statistic(hits.map((count) => (100 * count) / size));
  }).sort((a, b) => a - b);
  return [values[Math.floor(0.025 * RESAMPLES)]!, values[Math.floor(0.975 * RESAMPLES)]!];
}

/** Uniform numbers in [0, 1): Marsaglia's xorshift32 with a seed, so that results are reproducible. */
export function xorshift(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}
