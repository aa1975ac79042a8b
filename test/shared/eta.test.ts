import { describe, expect, test } from "vitest";
import { etaOf, type Pace } from "../../shared/eta.ts";

const NOW = 1_000_000;
const pace = (changes: Partial<Pace> = {}): Pace => ({
  atMs: NOW,
  slots: 4,
  busy: 4,
  tokensPerSecond: 10,
  tokensMean: 100,
  share: 0.5,
  spread: 1,
  ...changes,
});
const eta = (jobs: number, paces: readonly Pace[]) =>
  etaOf({ jobs, tokens: jobs * 200 }, paces, NOW);

/** Numbers from 0 to 1 that look random and are the same each time. */
function* uniform(): Generator<number, never> {
  for (let state = 1; ;) {
    state = (state * 48_271) % 2_147_483_647;
    yield state / 2_147_483_647;
  }
}

/** Quantiles of the start of a job by running the queue many times: jobs take 100 tokens on average, exponentially. */
function simulated(jobs: number): number[] {
  const random = uniform();
  const duration = () => (-Math.log(random.next().value) * 100) / 10;
  const starts = Array.from({ length: 4_000 }, () => {
    const slots = Array.from({ length: 4 }, duration);
    for (let i = 0; i < jobs; i++) {
      const first = slots.indexOf(Math.min(...slots));
      slots[first]! += duration();
    }
    return Math.min(...slots);
  }).toSorted((a, b) => a - b);
  return [0.1, 0.5, 0.9].map((quantile) => starts[Math.floor(quantile * starts.length)]!);
}

test.each([0, 1, 5, 30])("with %i jobs before it, a job starts when a simulation says", (jobs) => {
  const [p10, p50, p90] = simulated(jobs) as [number, number, number];
  const estimate = eta(jobs, [pace()])!;
  expect(estimate.p50 / p50).toBeCloseTo(1, 0);
  expect(Math.abs(estimate.p50 / p50 - 1)).toBeLessThan(0.1);
  expect(Math.abs(estimate.p90 / p90 - 1)).toBeLessThan(0.1);
  expect(estimate.p10).toBeLessThan(p10 * 1.25);
});

describe("what is known of workers:", () => {
  test("a free slot for each before it, and for itself", () => {
    expect(eta(2, [pace({ busy: 1 })])).toEqual({ p10: 0, p50: 0, p90: 0 });
    expect(eta(3, [pace({ busy: 1 })])!.p50).toBeGreaterThan(0);
  });

  test("two workers are twice as fast as one", () => {
    expect(eta(9, [pace(), pace()])!.p50 * 2).toBeCloseTo(eta(9, [pace()])!.p50, 1);
  });

  test("nothing, where none runs, none has spoken for a while, or none has ended a job", () => {
    expect(eta(0, [])).toBeNull();
    expect(eta(0, [pace({ atMs: NOW - 60_000 })])).toBeNull();
    const none = { tokensPerSecond: null, tokensMean: null, share: null, spread: null };
    expect(eta(9, [pace(none)])).toBeNull();
    expect(eta(9, [pace(none), pace()])).not.toBeNull();
  });
});
