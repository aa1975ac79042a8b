/**
 * The job consumer: takes jobs from the lanes that this worker serves and runs each in a slot. There is one for each shard, and they
 * share the slots (slots.ts). Which job is next is decided by
 * the fair queues and the leases in Redis (shared/queue/), and how a job runs by run-job.ts.
 * It keeps its jobs by renewing their leases (running-jobs.ts). A channel carries signals: a lane has work, a running job must
 * stop. As a signal may be lost, it also polls.
 * The folder jobs/ also owns the heartbeat of a worker that generates, and two control loops that each worker with the role `sweep`
 * runs: the sweeper and the repair of the queue. It knows the stores and the border to the engine (engine-client/), not the models
 * and not HTTP.
 */
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { Job } from "../../shared/api/jobs.ts";
import type { WebhookPublisher } from "../../shared/webhooks/publisher.ts";
import { fenceOf } from "../../shared/jobs/fence.ts";
import { JobLeases, type ClaimedJob } from "../../shared/jobs/leases.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import { modelsOfLane } from "../../shared/queue/lanes.ts";
import { LANES_KEY, LEASE_GROUPS_KEY, SIGNALS_CHANNEL } from "../../shared/redis/keys.ts";
import type { RedisClient } from "../../shared/redis/client.ts";
import { commandsOf, tagOf, withTag } from "../../shared/redis/tags.ts";
import { AttemptWatch, type AttemptWatchDeps } from "../telemetry/attempt-watch.ts";
import { jobLogger } from "../telemetry/log.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { duplicateConnection, isAnswering } from "../redis/connection.ts";
import type { AwayModels } from "./away-models.ts";
import { LaneRotation } from "./lane-rotation.ts";
import { reportProgress, type ProgressPublisher } from "./progress-reports.ts";
import type { ThroughputMeter } from "./throughput.ts";
import { endUnrun, runJob, type RunJobDeps } from "./run-job.ts";
import { JobRun } from "./job-run.ts";
import { RunningJobs } from "./running-jobs.ts";
import type { Slots, SlotUser } from "./slots.ts";

/** Interval at which jobs are looked for without a signal. */
const POLL_MS = 1_000;
/** Pause after an error of Redis. */
const RETRY_MS = 1_000;
/** Longest wait for Redis when the running jobs are given up. */
const RELEASE_MS = 1_000;
/** Ids of reported jobs that are remembered. */
const NEWER_IDS_MAX = 1_000;

export interface JobConsumerDeps extends RunJobDeps {
  readonly connection: Redis;
  /** Names this worker in Redis, as its heartbeat does. */
  readonly workerId: string;
  /** Fingerprints by the id of each ensemble that the engine serves. */
  readonly served: ReadonlyMap<string, string>;
  /** Those of them that cannot be served now. */
  readonly away?: Pick<AwayModels, "reasons">;
  /** Whether no job may be taken now. */
  readonly isPaused?: () => boolean;
  readonly publisher: Pick<WebhookPublisher, "publishJobEnd"> & ProgressPublisher;
  /** Makes the API's view of a job, which is the body of its webhooks. */
  readonly readJob: (record: JobRecord) => Promise<Job>;
  readonly log: Logger;
  /** The worker's slots, which the consumers of its other shards use too. */
  readonly slots: Slots;
  /** If a lease is not renewed for this many milliseconds, another worker takes over its job. */
  readonly leaseMs: number;
  readonly throughput: Pick<ThroughputMeter, "slotTaken" | "slotFreed" | "jobEnded">;
  readonly metrics: Pick<Metrics, "jobEnded"> & AttemptWatchDeps["metrics"];
}

/** Starts taking jobs. */
export function startJobConsumer(deps: JobConsumerDeps): JobConsumer {
  return new JobConsumer(deps);
}

export class JobConsumer {
  readonly #deps: JobConsumerDeps;
  readonly #redis: RedisClient;
  readonly #leases: JobLeases;
  readonly #lanes: LaneRotation;
  readonly #subscriber: Redis;
  readonly #subscribed: Promise<unknown>;
  readonly #running: RunningJobs;
  /** The ends of the running jobs, and their lanes. */
  readonly #ends = new Map<Promise<void>, string>();
  #taking: Promise<unknown> = Promise.resolve();
  /** Jobs of a newer release that were reported. */
  readonly #newerIds = new Set<string>();
  readonly #slotUser: SlotUser;
  #wake = Promise.withResolvers<void>();
  #isClosing = false;
  /** Whether running jobs are given up. */
  #isReleasing = false;
  #refreshedMs = 0;
  #askedMs = 0;
  readonly #loop: Promise<void>;

  constructor(deps: JobConsumerDeps) {
    this.#deps = deps;
    this.#slotUser = {
      wake: () => this.#wake.resolve(),
      isAnswering: () => isAnswering(deps.connection),
    };
    deps.slots.join(this.#slotUser);
    this.#redis = commandsOf(deps.connection);
    this.#leases = new JobLeases(this.#redis, deps.workerId);
    this.#lanes = new LaneRotation(deps.served);
    this.#running = new RunningJobs(this.#leases, deps.leaseMs, deps.log);
    this.#subscriber = duplicateConnection(deps.connection, deps.log);
    this.#subscriber.on("message", (_, message) => {
      this.#onSignal(message).catch((error: unknown) =>
        deps.log.warn({ err: error }, "Could not handle a signal; the next poll takes its place"),
      );
    });
    // Signals may have been lost before.
    this.#subscriber.on("ready", () => {
      this.#wake.resolve();
      void this.#running.renew();
    });
    this.#subscribed = this.#subscriber.subscribe(withTag(SIGNALS_CHANNEL, tagOf(deps.connection)));
    this.#subscribed.catch(() => {});
    this.#loop = this.#takeJobs();
  }

  /** Count of jobs that run. */
  get running(): number {
    return this.#running.size;
  }

  /** Where each job that runs stands, for the log. */
  standing(): ReturnType<RunningJobs["standing"]> {
    return this.#running.standing();
  }

  /** Resolves when it receives signals. */
  async waitUntilReady(): Promise<void> {
    await this.#subscribed;
  }

  /**
   * Changes which ensembles are served, and resolves when no job of another one runs here any more.
   * @param served as `JobConsumerDeps.served`
   */
  async serve(served: ReadonlyMap<string, string>): Promise<void> {
    this.#lanes.serve(served);
    this.#wake.resolve();
    // A job may be claimed by an order that is on its way.
    await this.#taking.catch(() => {});
    const isServed = (lane: string) => modelsOfLane(lane).every((id) => served.has(id));
    const others = [...this.#ends].filter(([, lane]) => !isServed(lane));
    await Promise.all(others.map(([end]) => end));
  }

  /** Takes no more jobs, and resolves when the running ones have ended. */
  async close(): Promise<void> {
    this.#isClosing = true;
    this.#wake.resolve();
    await this.#loop;
    await Promise.all(this.#ends.keys());
    this.#running.stopRenewing();
    this.#subscriber.disconnect();
  }

  /** Takes no more jobs, and gives up those that still run, so that other workers take them over at once. */
  async release(): Promise<void> {
    this.#isClosing = true;
    this.#isReleasing = true;
    this.#wake.resolve();
    const runs = this.#running.fenceAll();
    // The loop gives up a job whose claim is on its way.
    const given = Promise.all([runs.length > 0 && this.#leases.release(runs), this.#loop]);
    await raceTimeout(given, RELEASE_MS).catch((error: unknown) =>
      this.#deps.log.warn({ err: error }, "Could not give up running jobs: their leases expire"),
    );
  }

  async #takeJobs(): Promise<void> {
    while (!this.#isClosing) {
      this.#wake = Promise.withResolvers();
      const taking = this.#takeJob();
      this.#taking = taking;
      const waitMs = await taking.catch((error: unknown) => {
        this.#deps.log.warn({ err: error }, "Could not take a job");
        return RETRY_MS;
      });
      if (waitMs > 0) await raceTimeout(this.#wake.promise, waitMs);
    }
  }

  /** @returns milliseconds to wait before the next try */
  async #takeJob(): Promise<number> {
    const { slots, isPaused = () => false } = this.#deps;
    await this.#refreshLanes();
    if (this.#isClosing) return 0;
    const hasSlot = !isPaused() && slots.reserve(this.#slotUser);
    const nowMs = performance.now();
    const sinceMs = nowMs - this.#askedMs;
    // Without a slot it asks only for jobs that must end, and so no more often than it polls.
    if (!hasSlot && sinceMs < POLL_MS) return POLL_MS - sinceMs;
    this.#askedMs = nowMs;
    try {
      return await this.#takeJobFor(hasSlot);
    } finally {
      slots.release(this.#slotUser);
    }
  }

  /** @param hasSlot whether a job may be claimed; otherwise only one that must end is taken */
  async #takeJobFor(hasSlot: boolean): Promise<number> {
    const { slots, leaseMs, attemptsMax, away } = this.#deps;
    const lanes = this.#lanes.next(away?.reasons);
    const suspectAfterMs = hasSlot ? slots.suspectAfterMs(this.#slotUser) : null;
    this.#running.expectJob();
    const { job, newer, waitMs } = await this.#leases.take({
      lanes,
      takesJobs: hasSlot,
      ...(suspectAfterMs !== null && { suspectAfterMs }),
      leaseMs,
      attemptsMax,
    });
    if (newer !== null) this.#reportNewer(newer);
    if (job === null) {
      this.#lanes.foundNone();
      return hasSlot ? Math.min(POLL_MS, Math.max(1, waitMs ?? POLL_MS)) : POLL_MS;
    }
    this.#lanes.taken(job.record.lane);
    if (job.status === "claimed" && this.#isReleasing) await this.#leases.release([job.record]);
    else if (job.status === "claimed") this.#start(job);
    else await this.publishEnd(await endUnrun(this.#deps, job));
    return 0;
  }

  /** Logs once that a worker of a newer release must run a job. */
  #reportNewer({ id, reason }: { readonly id: string; readonly reason: string }): void {
    if (this.#newerIds.has(id)) return;
    if (this.#newerIds.size >= NEWER_IDS_MAX) this.#newerIds.clear();
    this.#newerIds.add(id);
    this.#deps.log.warn({ job: id, reason }, "A worker of a newer release must run a job");
  }

  async #refreshLanes(): Promise<void> {
    const nowMs = performance.now();
    if (nowMs - this.#refreshedMs < POLL_MS) return;
    const [lanes, groups] = await Promise.all([
      this.#redis.smembers(LANES_KEY),
      this.#redis.smembers(LEASE_GROUPS_KEY),
    ]);
    await this.#lanes.refresh(lanes, groups);
    this.#refreshedMs = nowMs;
  }

  #start(claim: ClaimedJob): void {
    const run = new JobRun(claim.record);
    this.#running.add(run);
    this.#deps.slots.add(this.#slotUser, run);
    this.#deps.throughput.slotTaken();
    const end = this.#run(claim, run).then(() => {
      this.#deps.throughput.slotFreed();
      this.#running.remove(run);
      this.#deps.slots.remove(run);
      this.#ends.delete(end);
      this.#wake.resolve();
    });
    this.#ends.set(end, claim.record.lane);
  }

  /** Runs an attempt. It never rejects: a job whose run throws is given up, and fails if that happens too often. */
  async #run(claim: ClaimedJob, run: JobRun): Promise<void> {
    const watch = new AttemptWatch(this.#deps, run.id, claim.record.generation.model);
    const progress = reportProgress(this.#deps, claim.record, run);
    try {
      const ended = await runJob(this.#deps, claim, run, watch);
      // A failover of Redis may have lost the last tokens. The job is then still this worker's, and is taken again at once.
      if (ended === null && run.stopReason === "fenced") await this.#leases.release([run]);
      await this.publishEnd(ended);
    } catch (error) {
      watch.attemptFailed(error);
      await this.#retryLater(run).catch((cause: unknown) =>
        this.#deps.log.warn({ err: cause }, "Could not give up a job: its lease expires"),
      );
    } finally {
      progress.stop();
    }
  }

  async #retryLater(run: JobRun): Promise<void> {
    if ((await this.#leases.retryLater(run)) !== "failed") return;
    const record = await this.#deps.store.record(run.id);
    if (record === null || fenceOf(record) !== fenceOf(run)) return;
    const error = { code: "internal", message: "The job could not be run" } as const;
    await this.publishEnd(await this.#deps.store.endWithError(record, "failed", error));
  }

  /** Publishes the end of a job. @param ended null if the job has not ended */
  async publishEnd(ended: JobRecord | null): Promise<void> {
    if (ended === null) return;
    const { publisher, readJob, metrics, throughput, log } = this.#deps;
    if (ended.outcome !== undefined) throughput.jobEnded(ended);
    await publisher.publishJobEnd(ended, await readJob(ended));
    metrics.jobEnded(ended.state, ended.generation.model);
    const { state, attempt, startedAtMs, endedAtMs } = ended;
    const ms = (endedAtMs ?? 0) - (startedAtMs ?? endedAtMs ?? 0);
    jobLogger(log, ended, attempt).info({ state, ms }, "Job ended");
  }

  async #onSignal(message: string): Promise<void> {
    const [kind, subject = ""] = message.split(/ (.*)/s);
    if (kind === "work") {
      const isFree = this.#deps.slots.isFreeFor(this.#slotUser);
      if (isFree && (await this.#lanes.add(subject))) this.#wake.resolve();
      return;
    }
    this.#running.stop(subject, kind === "cancel" ? "cancelled" : "fenced");
  }
}

async function raceTimeout(promise: Promise<unknown>, ms: number): Promise<void> {
  const timeout = Promise.withResolvers<void>();
  const timer = setTimeout(() => timeout.resolve(), ms);
  await Promise.race([promise, timeout.promise]).finally(() => clearTimeout(timer));
}
