/**
 * A worker's side of the queue: takes jobs (take-script.ts), keeps them by renewing their leases, and gives them up
 * (lease-scripts.ts). The sets in Redis that hold the leases are described in queue/lease-lua.ts.
 */
import { fenceOf } from "./fence.ts";
import { leaveToNewer, releaseLeases, renewLeases, retryLater } from "./lease-scripts.ts";
import { requireKnownGrammar } from "./known-grammar.ts";
import { toJobRecord, type JobRecord } from "./record.ts";
import { take, type TakeOrder } from "./take-script.ts";
import { DUE_KEY, jobKey, LAST_CLAIM_PREFIX } from "../redis/keys.ts";
import type { RedisClient } from "../redis/client.ts";
import { JOB_VERSION, NewerRecord } from "../redis/version.ts";

/** An attempt that a worker has started. The job's record has its number. */
export interface ClaimedJob {
  readonly status: "claimed";
  readonly record: JobRecord;
  /** The attempt before this one; null for the first attempt. */
  readonly previousAttempt: PreviousAttempt | null;
}

export interface PreviousAttempt {
  readonly claimedAtMs: number;
  /** When it last logged a token; its start if it logged none. */
  readonly seenAtMs: number;
  /** Its worker gave the job up (at the drain, or after an error); false if the worker was lost. */
  readonly isGivenUp: boolean;
}

/**
 * A job that must end instead of being run. `exhausted`: as many attempts as allowed were lost before they logged a token.
 * `late`: its deadline has passed, or its `start_by` before it was started.
 */
export interface EndingJob {
  readonly status: "exhausted" | "late";
  readonly record: JobRecord;
}

export interface TakeResult {
  /** Null if there was none to take. */
  readonly job: ClaimedJob | EndingJob | null;
  /** A job that only a worker of a newer release can run, and that was left to it; null if none was found. */
  readonly newer: { readonly id: string; readonly reason: string } | null;
  /** Milliseconds until the next lease expires or the next suspect may be taken; null if none is known. */
  readonly waitMs: number | null;
}

/** An attempt that runs. */
export interface RunningAttempt {
  readonly id: string;
  readonly attempt: number;
  /** Id of the claim that started it. */
  readonly claim: string;
}

/** "lost": the job has ended, or another worker has claimed it. */
export type LeaseState = "kept" | "cancelled" | "expired" | "lost";

/** A run that throws this often fails its job. */
const FAILURES_MAX = 3;
/** A job that a newer release must run is claimed again after this pause. */
const NEWER_PAUSE_MS = 30_000;
/** Pause after the first failure; it doubles with each one. */
const RETRY_MS = 1_000;

type TakeReply = [
  status: "none" | "claimed" | "exhausted" | "late",
  waitMs: number,
  claimedAtMs: string,
  lastTokenAtMs: string,
  isGivenUp: 0 | 1,
  fields: string[],
];

export class JobLeases {
  readonly #redis: RedisClient;
  readonly #worker: string;
  #claims = 0;
  /** Id of a claim whose reply was lost with an error. */
  #unanswered: string | null = null;

  /** @param workerId random id of the worker's process, as in the registry of workers */
  constructor(redis: RedisClient, workerId: string = crypto.randomUUID()) {
    this.#redis = redis;
    this.#worker = workerId;
  }

  /**
   * Takes a job: an expired lease first, then a suspect, then the next job of a fair queue. After an error, the next call gets
   * the job that this one may have claimed.
   */
  async take(order: Omit<TakeOrder, "version" | "worker" | "claim">): Promise<TakeResult> {
    const reply = await this.#take(order);
    const [status, wait] = reply;
    const waitMs = wait < 0 ? null : wait;
    if (status === "none") return { job: null, newer: null, waitMs };
    const fields = toFields(reply[5]);
    try {
      return { job: toTakenJob(status, reply, fields), newer: null, waitMs };
    } catch (error) {
      if (!(error instanceof NewerRecord)) throw error;
      const { id = "", attempt = "", claim = "" } = fields;
      const fence = fenceOf({ attempt: Number(attempt), claim });
      await leaveToNewer(this.#redis, [DUE_KEY, jobKey(id)], [id, fence, NEWER_PAUSE_MS]);
      return { job: null, newer: { id, reason: error.message }, waitMs: 0 };
    }
  }

  async #take(order: Omit<TakeOrder, "version" | "worker" | "claim">): Promise<TakeReply> {
    const worker = this.#worker;
    const claim = this.#unanswered ?? `${worker}-${++this.#claims}`;
    this.#unanswered = null;
    const args = [JSON.stringify({ ...order, worker, claim, version: JOB_VERSION })];
    try {
      return (await take(this.#redis, [DUE_KEY, LAST_CLAIM_PREFIX + worker], args)) as TakeReply;
    } catch (error) {
      this.#unanswered = claim;
      throw error;
    }
  }

  /** Renews the leases of all jobs that a worker runs. @returns the state of each, in the same order */
  async renew(attempts: readonly RunningAttempt[], leaseMs: number): Promise<LeaseState[]> {
    const args = [leaseMs, ...toArgs(attempts)];
    return (await renewLeases(this.#redis, toKeys(attempts), args)) as LeaseState[];
  }

  /** Gives up jobs that still run: other workers take them over at once. */
  async release(attempts: readonly RunningAttempt[]): Promise<void> {
    await releaseLeases(this.#redis, toKeys(attempts), toArgs(attempts));
  }

  /**
   * Gives up a job whose run threw, until after a pause.
   * @returns "failed" if it was tried often enough: the caller must end it
   */
  async retryLater(run: RunningAttempt): Promise<"retried" | "failed" | "lost"> {
    const args = [run.id, fenceOf(run), RETRY_MS, FAILURES_MAX];
    const reply = await retryLater(this.#redis, toKeys([run]), args);
    return reply === 1 ? "retried" : reply === 0 ? "failed" : "lost";
  }
}

const toKeys = (attempts: readonly RunningAttempt[]) => [
  DUE_KEY,
  ...attempts.map(({ id }) => jobKey(id)),
];

const toArgs = (attempts: readonly RunningAttempt[]) =>
  attempts.flatMap((run) => [run.id, fenceOf(run)]);

/** An object from a flat list: field, value, ... */
function toFields(list: readonly string[]): Record<string, string> {
  const entries = list.flatMap((name, i) => (i % 2 === 0 ? [[name, list[i + 1]!] as const] : []));
  return Object.fromEntries(entries);
}

/** @throws NewerRecord */
function toTakenJob(
  status: "claimed" | "exhausted" | "late",
  [, , claimedAtMs, lastTokenAtMs, isGivenUp]: TakeReply,
  fields: Record<string, string>,
): ClaimedJob | EndingJob {
  const record = toJobRecord(fields);
  requireKnownGrammar(record.generation);
  if (status !== "claimed") return { status, record };
  const startMs = Number(claimedAtMs);
  const seenAtMs = Math.max(startMs, Number(lastTokenAtMs));
  return {
    status,
    record,
    previousAttempt:
      claimedAtMs === "" ? null : { claimedAtMs: startMs, seenAtMs, isGivenUp: isGivenUp === 1 },
  };
}
