/**
 * The sweeper finishes work that crashed processes left behind. It expires queued jobs whose deadline has passed, and
 * publishes the webhooks of ended jobs where the process that ended them crashed or Redis was full.
 * It also ends running jobs whose weights no worker has any more (lost-weights.ts), and removes expired jobs from the index of lists.
 * A worker expires and cancels its own running jobs. The sweeper does so only when the lease of the job has expired too, because
 * then its worker is lost.
 */
import { isTerminal, type Job } from "../../shared/api/jobs.ts";
import { commandsOf } from "../../shared/redis/tags.ts";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { WebhookPublisher } from "../../shared/webhooks/publisher.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import { JobLists } from "../../shared/jobs/job-lists.ts";
import { NewerRecord } from "../../shared/redis/version.ts";
import type { JobStore } from "../../shared/jobs/store.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { LostWeights, WEIGHTS_LOST } from "./lost-weights.ts";
import { expiryError } from "./run-job.ts";

/** A waiting job expires this long after its deadline at most. */
const SWEEP_INTERVAL_MS = 200;
/** Jobs that are swept at the same time. */
const PAGE_JOBS = 100;
/** A sweep ends after the page in which this time is over; the next sweep goes on. */
const SWEEP_MS_MAX = 5_000;
/** A job whose sweep failed is looked at again after this pause. It doubles with each failure. */
const FIRST_PAUSE_MS = 1_000;
const PAUSE_MAX_MS = 60_000;
/** Jobs whose failures are remembered. A forgotten one begins again with the first pause. */
const FAILED_MAX = 10_000;

export interface SweeperDeps {
  readonly store: JobStore;
  readonly publisher: Pick<WebhookPublisher, "publishJobEnd">;
  /** Makes the API's view of a job, which is the body of its webhooks. */
  readonly readJob: (record: JobRecord) => Promise<Job>;
  readonly connection: Redis;
  readonly log: Logger;
  readonly metrics: Pick<Metrics, "jobEnded">;
}

/** Sweeps five times a second. @returns a function that stops the sweeps */
export function startSweeper(deps: SweeperDeps): () => void {
  const sweeper = new Sweeper(deps);
  let isSweeping = false;
  const timer = setInterval(() => {
    if (isSweeping) return;
    isSweeping = true;
    Promise.all([sweeper.sweep(), sweeper.endLost(), sweeper.removeExpired()])
      .catch((error: unknown) => deps.log.warn({ err: error }, "The sweep failed"))
      .finally(() => (isSweeping = false));
  }, SWEEP_INTERVAL_MS);
  return () => clearInterval(timer);
}

class Sweeper {
  readonly #deps: SweeperDeps;
  readonly #lostWeights: LostWeights;
  readonly #lists: JobLists;
  /** How often in a row the sweep of a job has failed. */
  readonly #failures = new Map<string, number>();

  constructor(deps: SweeperDeps) {
    this.#deps = deps;
    const redis = commandsOf(deps.connection);
    this.#lostWeights = new LostWeights(redis);
    this.#lists = new JobLists(redis);
  }

  /** Sweeps page after page: many due jobs of one tenant delay those of others by no more than their sweep takes. */
  async sweep(): Promise<void> {
    const startMs = Date.now();
    const errors: unknown[] = [];
    for (let isFull = true; isFull && Date.now() - startMs < SWEEP_MS_MAX;) {
      const ids = await this.#deps.store.due(PAGE_JOBS);
      const swept = await Promise.all(ids.map((id) => this.#try(id)));
      errors.push(...swept.filter((error) => error !== null));
      isFull = ids.length === PAGE_JOBS;
    }
    if (errors.length === 0) return;
    this.#deps.log.warn(
      { err: errors[0], jobs: errors.length },
      "Due jobs were not expired, or the ends of jobs not published: they are tried again",
    );
  }

  /** Removes jobs from the lists that have expired, page after page. */
  async removeExpired(): Promise<void> {
    const startMs = Date.now();
    let removed = PAGE_JOBS;
    while (removed === PAGE_JOBS && Date.now() - startMs < SWEEP_MS_MAX)
      removed = await this.#lists.removeExpired(PAGE_JOBS);
  }

  /** Ends the jobs whose weights no worker has. The sweep of due jobs publishes those that cannot be published now. */
  async endLost(): Promise<void> {
    const { store } = this.#deps;
    const ids = await this.#lostWeights.jobs();
    const results = await Promise.allSettled(
      ids.map(async (id) => {
        const record = await store.record(id);
        if (record?.state !== "running") return;
        await this.#publish(await this.#endWithError(record, "failed", WEIGHTS_LOST));
      }),
    );
    const failed = results.find((result) => result.status === "rejected");
    if (failed) throw failed.reason;
  }

  /** Sweeps one job. If that fails, the job makes room for those behind it. @returns the error to report, or null */
  async #try(id: string): Promise<unknown> {
    try {
      await this.#sweepJob(id);
      this.#failures.delete(id);
      return null;
    } catch (error) {
      const failures = this.#failures.get(id) ?? 0;
      if (this.#failures.size >= FAILED_MAX) this.#failures.clear();
      this.#failures.set(id, failures + 1);
      const pauseMs = Math.min(PAUSE_MAX_MS, FIRST_PAUSE_MS * 2 ** failures);
      // If Redis has failed, the report of the first error says so.
      await this.#deps.store.postponeDue(id, pauseMs).catch(() => {});
      // A job of a newer release is left to the workers of that release.
      return error instanceof NewerRecord && failures > 0 ? null : error;
    }
  }

  async #sweepJob(id: string): Promise<void> {
    const { store } = this.#deps;
    const record = await store.record(id);
    if (!record) return store.clearDue(id);
    await this.#publish(isTerminal(record.state) ? record : await this.#end(record));
  }

  /** A cancelled job that is due has lost its worker, or was cancelled at its deadline. */
  #end(record: JobRecord): Promise<JobRecord | null> {
    if (record.cancelRequested) return this.#endWithError(record, "cancelled", null);
    return this.#endWithError(record, "expired", expiryError(record));
  }

  async #endWithError(...args: Parameters<JobStore["endWithError"]>): Promise<JobRecord | null> {
    const ended = await this.#deps.store.endWithError(...args);
    if (ended) this.#deps.metrics.jobEnded(ended.state, ended.generation.model);
    return ended;
  }

  async #publish(ended: JobRecord | null): Promise<void> {
    const { publisher, readJob } = this.#deps;
    if (ended) await publisher.publishJobEnd(ended, await readJob(ended));
  }
}
