/**
 * Takes jobs. BullMQ gives each permit to run one to one worker, renews its lock while the job runs, and gives it to
 * another when the lock runs out; which job is next is the fair queue's to say, how it runs is in run-job.ts.
 */
import { Worker, type Job as QueueJob } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { Announcer } from "../shared/announcer.ts";
import type { FairQueue } from "../shared/fair-queue.ts";
import type { Permit } from "../shared/generation-queue.ts";
import type { JobRecord } from "../shared/job.ts";
import { GENERATION_QUEUE, QUEUE_PREFIX } from "../shared/redis-keys.ts";
import { AttemptWatch, type AttemptWatchDeps } from "./attempt-watch.ts";
import { Gate } from "./gate.ts";
import { jobLog } from "./log.ts";
import type { Metrics } from "./metrics.ts";
import type { PaceKeeper } from "./pace.ts";
import { RETRY_MS } from "./redis.ts";
import { runJob, type RunJobDeps } from "./run-job.ts";

export interface ConsumerDeps extends RunJobDeps {
  readonly connection: Redis;
  readonly queue: Pick<FairQueue, "take" | "useUp">;
  readonly announcer: Pick<Announcer, "ended">;
  readonly log: Logger;
  /** Jobs in progress at once. */
  readonly slots: number;
  /** Milliseconds after which a silent worker's jobs are taken over. */
  readonly lockMs: number;
  readonly pace: Pick<PaceKeeper, "enter" | "leave" | "ended">;
  readonly metrics: Pick<Metrics, "jobEnded"> & AttemptWatchDeps["metrics"];
}

export function startConsumer(deps: ConsumerDeps): Worker {
  const { connection, log, slots, lockMs } = deps;
  const gate = new Gate();
  const worker = new Worker(GENERATION_QUEUE, (permit: QueueJob) => consume(deps, gate, permit), {
    connection,
    prefix: QUEUE_PREFIX,
    concurrency: slots,
    lockDuration: lockMs,
    // A lost worker is noticed within lockDuration + stalledInterval.
    stalledInterval: Math.ceil(lockMs / 3),
    runRetryDelay: RETRY_MS,
    // The bound on attempts is the claim's: it also ends the job, which BullMQ could not.
    maxStalledCount: Number.MAX_SAFE_INTEGER,
  });
  worker.on("error", (error) => log.warn({ reason: error.message }, "generation queue"));
  return worker;
}

async function consume(deps: ConsumerDeps, gate: Gate, permit: QueueJob): Promise<void> {
  const { queue } = deps;
  const taken = await queue.take(held(permit));
  if (!taken) return;
  const { id, isSuspect } = taken;
  // What one job crashes must not count against others.
  const leave = await gate.enter(isSuspect);
  deps.pace.enter();
  try {
    await attempt(deps, id, permit);
  } finally {
    deps.pace.leave();
    leave();
  }
  await queue.useUp(permit.id!, id);
}

async function attempt(deps: ConsumerDeps, id: string, permit: QueueJob): Promise<void> {
  const watch = new AttemptWatch(deps, id, permit.attemptsMade);
  try {
    const ended = await runJob(deps, id, held(permit), watch);
    if (!ended) return;
    deps.pace.ended(ended);
    await announce(deps, ended);
    const { state, attempt, startedAtMs, endedAtMs } = ended;
    const ms = (endedAtMs ?? 0) - (startedAtMs ?? 0);
    jobLog(deps.log, ended, attempt).info({ state, ms }, "job ended");
  } catch (error) {
    watch.failed(error);
    if (permit.attemptsMade + 1 >= (permit.opts.attempts ?? 1)) {
      await giveUp(deps, id, watch.number);
      await deps.queue.useUp(permit.id!, id);
    }
    throw error;
  }
}

const held = ({ id, token }: QueueJob): Permit => ({ id: id!, token: token! });

/**
 * Ends a job that no attempt could finish, so that nobody waits for it for ever.
 * @param attempt the last one: after a later one the job is another worker's
 */
async function giveUp(deps: ConsumerDeps, id: string, attempt: number): Promise<void> {
  const { store } = deps;
  const record = await store.record(id);
  if (record?.attempt !== attempt) return;
  const error = { code: "internal", message: "the job could not be run" } as const;
  const ended = await store.giveUp(record, "failed", error);
  if (ended) await announce(deps, ended);
}

async function announce({ store, announcer, metrics }: ConsumerDeps, ended: JobRecord) {
  await announcer.ended(ended, await store.view(ended));
  metrics.jobEnded(ended.state);
}
