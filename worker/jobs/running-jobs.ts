/**
 * The jobs of one shard that run in this worker. Their leases are renewed here, and they are stopped here: by a signal, or because a renewal
 * says that they must not run any more. A signal may be lost, so each renewal reports too what has become of a job.
 */
import type { Logger } from "pino";
import type { JobLeases, LeaseState } from "../../shared/jobs/leases.ts";
import { JobRun, type StopReason } from "./job-run.ts";

const STOP_REASONS: Readonly<Record<LeaseState, StopReason | null>> = {
  kept: null,
  cancelled: "cancelled",
  expired: "expired",
  lost: "fenced",
};

export class RunningJobs {
  readonly #leases: Pick<JobLeases, "renew">;
  readonly #leaseMs: number;
  readonly #log: Logger;
  readonly #renewal: NodeJS.Timeout;
  readonly #runs = new Map<string, JobRun>();
  /** Signals for jobs that do not run here. The reply to a claim may arrive after the signal. */
  readonly #earlySignals = new Map<string, StopReason>();
  #isRenewing = false;

  /** @param leaseMs a lease that is not renewed for this many milliseconds ends */
  constructor(leases: Pick<JobLeases, "renew">, leaseMs: number, log: Logger) {
    this.#leases = leases;
    this.#leaseMs = leaseMs;
    this.#log = log;
    this.#renewal = setInterval(() => void this.renew(), Math.ceil(leaseMs / 3));
  }

  get size(): number {
    return this.#runs.size;
  }

  /** Where each job stands, for the log. */
  standing(): { job: string; attempt: number; phase: JobRun["phase"]; tokens: number }[] {
    return Array.from(this.#runs.values(), ({ id, attempt, phase, tokens }) => {
      return { job: id, attempt, phase, tokens };
    });
  }

  /** From here on, signals for jobs that do not run here are kept until a job is added. Called before a claim is sent. */
  expectJob(): void {
    this.#earlySignals.clear();
  }

  add(run: JobRun): void {
    const signalled = this.#earlySignals.get(run.id);
    if (signalled !== undefined) run.stop(signalled);
    // A job that this worker lost and has taken again: the older run is fenced.
    this.#runs.get(run.id)?.stop("fenced");
    this.#runs.set(run.id, run);
  }

  remove(run: JobRun): void {
    if (this.#runs.get(run.id) === run) this.#runs.delete(run.id);
  }

  /** Stops the job, now or when it is added. */
  stop(jobId: string, reason: StopReason): void {
    const run = this.#runs.get(jobId);
    if (run === undefined) this.#earlySignals.set(jobId, reason);
    else run.stop(reason);
  }

  /** Stops all jobs without an end: other workers may take them. @returns their runs */
  fenceAll(): JobRun[] {
    this.stopRenewing();
    const runs = [...this.#runs.values()];
    for (const run of runs) run.stop("fenced");
    return runs;
  }

  /** Renews the leases of all running jobs, and stops those that must not run any more. */
  async renew(): Promise<void> {
    // A fenced run was given up, or has another worker: a renewal must not take its lease back.
    const runs = [...this.#runs.values()].filter(({ stopReason }) => stopReason !== "fenced");
    if (this.#isRenewing || runs.length === 0) return;
    this.#isRenewing = true;
    try {
      const states = await this.#leases.renew(runs, this.#leaseMs);
      for (const [i, run] of runs.entries()) {
        const reason = STOP_REASONS[states[i]!];
        if (reason !== null) run.stop(reason);
      }
    } catch (error) {
      this.#log.warn({ err: error }, "Could not renew the leases of running jobs");
    } finally {
      this.#isRenewing = false;
    }
  }

  stopRenewing(): void {
    clearInterval(this.#renewal);
  }
}
