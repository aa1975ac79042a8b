import { describe, expect, test } from "vitest";
import { estimateStart } from "../../../shared/queue/eta.ts";
import type { Throughput } from "../../../shared/workers/worker-report.ts";

const worker = (changes: Partial<Throughput> = {}): Throughput => ({
  slots: 4,
  busy: 4,
  tokensPerSecond: 10,
  tokensMean: 100,
  costShare: 0.5,
  tokensVariation: 1,
  ...changes,
});
const eta = (jobs: number, workers: readonly Throughput[]) =>
  estimateStart({ jobs, tokens: jobs * 200 }, workers);

/** Pseudo-random numbers from 0 to 1, the same in each run. */
function* uniform(): Generator<number, never> {
  for (let state = 1; ;) {
    state = (state * 48_271) % 2_147_483_647;
    yield state / 2_147_483_647;
  }
}

/** Quantiles of when a job starts, from 4,000 simulations: tokens of a job are exponentially distributed, 100 on average. */
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

test.each([0, 1, 5, 30])("with %i jobs ahead, the estimate agrees with a simulation", (jobs) => {
  const [p10, p50, p90] = simulated(jobs) as [number, number, number];
  const estimate = eta(jobs, [worker()])!;
  expect(estimate.p50 / p50).toBeCloseTo(1, 0);
  expect(Math.abs(estimate.p50 / p50 - 1)).toBeLessThan(0.1);
  expect(Math.abs(estimate.p90 / p90 - 1)).toBeLessThan(0.1);
  expect(estimate.p10).toBeLessThan(p10 * 1.25);
});

describe("the workers' reports:", () => {
  test("with a free slot for each job ahead and for the job itself, it starts now", () => {
    expect(eta(2, [worker({ busy: 1 })])).toEqual({ p10: 0, p50: 0, p90: 0 });
    expect(eta(3, [worker({ busy: 1 })])!.p50).toBeGreaterThan(0);
  });

  test("two workers are twice as fast as one", () => {
    expect(eta(9, [worker(), worker()])!.p50 * 2).toBeCloseTo(eta(9, [worker()])!.p50, 1);
  });

  test("there is no estimate if no worker runs, or no worker has ended a job", () => {
    expect(eta(0, [])).toBeNull();
    const none = { tokensPerSecond: null, tokensMean: null, share: null, spread: null };
    expect(eta(9, [worker(none)])).toBeNull();
    expect(eta(9, [worker(none), worker()])).not.toBeNull();
  });
});
