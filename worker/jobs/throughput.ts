/**
 * Measures how many tokens per second this worker's slots generate. The heartbeat reports it, and the edge estimates from it
 * when a waiting job will start (shared/queue/eta.ts).
 */
import type { Throughput } from "../../shared/workers/worker-report.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import type { Outcome } from "../../shared/api/job-events.ts";

/** The measurement covers this many jobs, the last that ended. */
const MEASURED_JOBS_MAX = 50;

interface MeasuredJob {
  readonly tokens: number;
  readonly seconds: number;
  /** Most tokens that the job could have used. */
  readonly cost: number;
}

/** Counts this worker's busy slots and measures its last ended jobs. */
export class ThroughputMeter {
  readonly #slots: number;
  #busy = 0;
  readonly #jobs: MeasuredJob[] = [];

  constructor(slots: number) {
    this.#slots = slots;
  }

  slotTaken(): void {
    this.#busy++;
  }

  slotFreed(): void {
    this.#busy--;
  }

  /** Adds a job to the measurement, unless it never ran or an earlier worker did a part of it. */
  jobEnded({ attempt, outcome, claimedAtMs, endedAtMs, cost }: JobRecord): void {
    const tokens = (outcome as Outcome).usage.total_tokens;
    if (attempt !== 1 || claimedAtMs === null || endedAtMs === null || tokens === 0) return;
    const seconds = Math.max(1, endedAtMs - claimedAtMs) / 1000;
    this.#jobs.push({ tokens, seconds, cost: Math.max(cost, 1) });
    if (this.#jobs.length > MEASURED_JOBS_MAX) this.#jobs.shift();
  }

  /** The measurement now; speeds are null until a job has ended. */
  report(): Throughput {
    const { length } = this.#jobs;
    const sum = (valueOf: (job: MeasuredJob) => number) =>
      this.#jobs.reduce((total, job) => total + valueOf(job), 0);
    const mean = sum(({ tokens }) => tokens) / length;
    const ifMeasured = <T>(value: T) => (length === 0 ? null : value);
    return {
      slots: this.#slots,
      busy: this.#busy,
      tokensPerSecond: ifMeasured((mean * length) / sum(({ seconds }) => seconds)),
      tokensMean: ifMeasured(mean),
      costShare: ifMeasured((mean * length) / sum(({ cost }) => cost)),
      tokensVariation: ifMeasured(sum(({ tokens }) => (tokens / mean - 1) ** 2) / length),
    };
  }
}
