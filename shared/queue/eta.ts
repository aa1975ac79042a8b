/**
 * Estimates when a waiting job starts, from the work ahead of it and the throughput that workers measured.
 * The model is simple, so its bounds are wide. Slots become free one after the other, each when its job has processed its
 * tokens. Jobs need as many tokens, at the same speed, as recent jobs did. The tokens that n jobs need together are gamma
 * distributed.
 */
import type { Eta } from "../api/queue.ts";
import type { Throughput } from "../workers/worker-report.ts";
import type { WorkAhead } from "./fair-queue.ts";

/** The 0.9 quantile of the standard normal distribution; its negative is the 0.1 quantile. */
const Z90 = 1.2816;

/**
 * The least variation of the tokens that a running job still needs. Its progress is not known, so these tokens vary even if all
 * jobs are alike.
 */
const VARIATION_MIN = 0.5;

/**
 * Quantiles of the seconds until a job starts.
 * @param workers the live workers that can run the job
 * @returns null if there are none, or if all slots are busy and no worker has ended a job yet
 */
export function estimateStart(
  ahead: WorkAhead,
  workers: readonly Throughput[],
): (Eta & { p10: number }) | null {
  const slots = sumOf(workers, (worker) => worker.slots);
  if (slots === 0) return null;
  // How many slots must become free until the job starts.
  const releases = ahead.jobs + 1 - sumOf(workers, ({ slots, busy }) => Math.max(0, slots - busy));
  if (releases <= 0) return { p10: 0, p50: 0, p90: 0 };
  const measured = workers.filter(hasMeasured);
  if (measured.length === 0) return null;
  /** Mean over slots. */
  const mean = (value: (worker: Measured) => number) =>
    sumOf(measured, (worker) => value(worker) * worker.slots) /
    sumOf(measured, (worker) => worker.slots);
  const perSecond = slots * mean((worker) => worker.tokensPerSecond);
  // First one of the running jobs must end, then those jobs ahead that find no free slot.
  const costAhead = ahead.jobs === 0 ? 0 : (ahead.tokens * (releases - 1)) / ahead.jobs;
  const tokens =
    mean((worker) => worker.tokensMean) + costAhead * mean((worker) => worker.costShare);
  const variation = Math.max(
    VARIATION_MIN,
    mean((worker) => worker.tokensVariation),
  );
  const seconds = (z: number) =>
    Math.round((tokens / perSecond) * gammaQuantile(releases / variation, z) * 100) / 100;
  return { p10: seconds(-Z90), p50: seconds(0), p90: seconds(Z90) };
}

type Measured = { readonly [K in keyof Throughput]: NonNullable<Throughput[K]> };

const hasMeasured = (throughput: Throughput): throughput is Measured =>
  Object.values(throughput).every((value) => value !== null);

const sumOf = <T>(items: readonly T[], value: (item: T) => number) =>
  items.reduce((total, item) => total + value(item), 0);

/**
 * A quantile of a gamma distribution of mean 1 (Wilson and Hilferty's approximation).
 * @param z the same quantile of the standard normal distribution
 */
function gammaQuantile(shape: number, z: number): number {
  return Math.max(0, 1 - 1 / (9 * shape) + z / (3 * Math.sqrt(shape))) ** 3;
}
