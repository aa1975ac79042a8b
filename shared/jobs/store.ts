/**
 * The folder jobs/ owns the job record, its event log, and the Lua scripts that change them (scripts.ts, submit-script.ts,
 * take-script.ts, lease-scripts.ts, sweep-script.ts).
 *
 * Jobs in Redis: submit, append, finish, cancel, read. The edge and the workers use it; leases.ts is a worker's side of the queue.
 * It must not know BullMQ, HTTP, or who subscribes to a job's events.
 */
import * as v from "valibot";
import { isTerminal, type TerminalState } from "../api/jobs.ts";
import type { Outcome, JobEvent } from "../api/job-events.ts";
import type { Usage } from "../api/job-parts.ts";
import { keyLimit, type Admission, type AdmissionResult, type LimitPool } from "./admission.ts";
import { jobScriptKeys } from "./event-log.ts";
import { fenceOf, type Fence } from "./fence.ts";
import { facetsField } from "./facets.ts";
import { flowOf } from "../queue/fair-queue-lua.ts";
import { laneOf } from "../queue/lanes.ts";
import { toEvent, type LogEntry } from "./log-entry.ts";
import { JobOutput, toJobRecord, type JobRecord, type NewJob } from "./record.ts";
import * as scripts from "./scripts.ts";
import { CHAT_ENDPOINT } from "./sent-request.ts";
import { storedJobs } from "./stored-jobs.ts";
import { MIB, STORED_MIB } from "./stored-limit.ts";
import { LIMITS } from "../api/limits.ts";
import type { RedisClient } from "../redis/client.ts";
import { claimJson } from "../redis/idempotency.ts";
import type { Script } from "../redis/script.ts";
import { joinTokenDetails, type TokenDetails } from "../api/token-details.ts";
import { dueJobs, postponeDue, repairJobs, type LaneAssignment } from "./sweep-script.ts";
import { submitJobs, submitKeys, type SubmitOrder, type SubmitReply } from "./submit-script.ts";
import { DUE_KEY, jobKey, logKey, sharedKey, textKey } from "../redis/keys.ts";

/** "cancel": logged, and a cancellation was requested. "fenced": not logged; the job has ended or another worker has it. */
export type AppendResult = "ok" | "cancel" | "fenced";

/** "cancelled": the job was queued. "requested": its worker will cancel it. "ended": it had ended before. */
export type CancelResult = "cancelled" | "requested" | "ended" | "missing";

/** The output so far, read from the log. If the worker is lost, the next one continues from here. */
export interface Progress extends TokenDetails {
  readonly ids: readonly number[];
  readonly text: string;
}

const ZERO_USAGE: Usage = {
  prompt_tokens: 0,
  completion_tokens: 0,
  total_tokens: 0,
  prompt_tokens_details: { cached_tokens: 0 },
  speculation: { drafted_tokens: 0, accepted_tokens: 0 },
  base_calls: 0,
};

/** Outcome of a job that ended before a worker claimed it. */
export const NEVER_RAN: Outcome = { finish_reason: null, usage: ZERO_USAGE, error: null };

export class JobStore {
  readonly #redis: RedisClient;
  readonly #retentionMs: number;
  readonly #storedBytesMax: number;

  /**
   * @param retentionMs how long an ended job can be read
   * @param storedMib MiB of a tenant's requests and ended jobs together, at most
   */
  constructor(redis: RedisClient, retentionMs: number, storedMib = STORED_MIB.default) {
    this.#redis = redis;
    this.#retentionMs = retentionMs;
    this.#storedBytesMax = storedMib * MIB;
  }

  /** Submits one job without limits. */
  submit(job: NewJob): Promise<AdmissionResult> {
    return this.submitAll([job], { pools: [], tokens: [0], idempotency: null });
  }

  /**
   * Creates and queues the jobs of one request, all or none, if their API key's limits allow it. Once this has resolved, they
   * run even if the caller stops.
   * @param onSent called when they have been sent: commands that follow on the same connection find them
   */
  async submitAll(
    jobs: readonly NewJob[],
    admission: Admission,
    onSent = () => {},
  ): Promise<AdmissionResult> {
    const { pools, tokens, idempotency } = admission;
    const { tenant, requestOptions } = jobs[0]!;
    const flow = flowOf(tenant, requestOptions.batch !== undefined);
    const stored = storedJobs(jobs);
    const fields = stored.jobs.map((job) => Object.entries(job).flat());
    const shared = [...stored.shared].map(([id, values]) => ({
      id,
      fields: Object.entries(values).flat(),
    }));
    const facets = await Promise.all(jobs.map((job) => facetsOf(job)));
    const order: SubmitOrder = {
      flow,
      tenant,
      tenantFlows: [flowOf(tenant, false), flowOf(tenant, true)],
      jobs: jobs.map((job, i) => ({
        id: job.id,
        lane: laneOf(job.generation),
        priority: job.priority ?? 0,
        facets: facets[i]!,
        deadlineInMs: Math.round(job.deadlineInMs),
        ...(job.startByInMs != null && { startByInMs: Math.round(job.startByInMs) }),
        ...(job.deadlineMaxMs != null && { deadlineMaxMs: job.deadlineMaxMs }),
        tokens: tokens[i]!,
        args: fields[i]!.length,
      })),
      pools: pools.map(poolOrder),
      costs: { requests: 1, tokens: tokens.reduce((sum, count) => sum + count, 0) },
      shared: shared.map(({ id, fields: { length: args } }) => ({ id, args })),
      bytesMax: LIMITS.requestBytesMax,
      storedBytesMax: this.#storedBytesMax,
    };
    const keys = submitKeys(order, idempotency?.key ?? null);
    const values = [...fields, ...shared.map((part) => part.fields)].flat();
    const args = [JSON.stringify(order), claimJson(idempotency), ...values];
    const replied = submitJobs(this.#redis, keys, args);
    onSent();
    const reply = (await replied) as SubmitReply;
    if (reply[0] === "stored") {
      const waitMs = reply[1] < 0 ? null : reply[1];
      return { status: "full", counted: "stored", bytesMax: this.#storedBytesMax, waitMs };
    }
    return toAdmissionResult(reply, pools);
  }

  /** Records that the prefill of this attempt has begun. False if the caller has lost the job or it has ended. */
  async recordPrefill(jobId: string, fence: Fence, promptTokens: number): Promise<boolean> {
    const args = [fence, promptTokens];
    return (await scripts.recordPrefill(this.#redis, jobScriptKeys(jobId), args)) === 1;
  }

  /**
   * Logs the next tokens.
   * @param at count of the job's tokens before these, those of the prompt that have details included
   * @param baseCalls runs of the base since those
   */
  async appendTokens(
    jobId: string,
    fence: Fence,
    at: number,
    tokens: Progress,
    baseCalls = 0,
  ): Promise<AppendResult> {
    const { ids, text, prompt_logprobs: { length: promptCount } = [] } = tokens;
    const data = JSON.stringify(tokens);
    const count = at + promptCount + ids.length;
    const args = [fence, at, count, data, text, jobId, promptCount, baseCalls];
    const reply = await scripts.append(this.#redis, jobScriptKeys(jobId), args);
    return reply === 1 ? "ok" : reply === 2 ? "cancel" : "fenced";
  }

  /** Ends a job that the caller runs. False if the caller has lost it or it had ended. */
  async finish(
    jobId: string,
    fence: Fence,
    state: TerminalState,
    text: string,
    outcome: Outcome,
  ): Promise<boolean> {
    const args = [fence, state, text, JSON.stringify(outcome)];
    return (await this.#runEnd(scripts.finish, jobId, ...args)) === 1;
  }

  /**
   * Ends a job that the caller does not run, with the output so far.
   * @returns the ended job's record, or null if there is none, or if a worker has claimed the job since
   */
  async endWithError(
    { id, attempt, claim }: JobRecord,
    state: TerminalState,
    error: Outcome["error"],
  ): Promise<JobRecord | null> {
    const outcome = JSON.stringify({ ...NEVER_RAN, error });
    const fence = fenceOf({ attempt, claim });
    await this.#runEnd(scripts.finish, id, fence, state, "", outcome, 1);
    const after = await this.record(id);
    return after && isTerminal(after.state) ? after : null;
  }

  /** Idempotent: an ended job does not change. The worker of a running job gets a signal and cancels it. */
  async cancel(jobId: string): Promise<CancelResult> {
    const reply = await this.#runEnd(scripts.cancel, jobId, JSON.stringify(NEVER_RAN));
    return reply === 1
      ? "cancelled"
      : reply === 2
        ? "requested"
        : reply === 0
          ? "ended"
          : "missing";
  }

  /** Deletes the job, after cancelling it. Its worker gets a signal and stops. */
  async delete(jobId: string): Promise<void> {
    await this.#runEnd(scripts.deleteJob, jobId, JSON.stringify(NEVER_RAN));
  }

  #runEnd(script: Script, jobId: string, ...args: (string | number)[]): Promise<unknown> {
    return script(this.#redis, jobScriptKeys(jobId), [this.#retentionMs, ...args]);
  }

  /**
   * Ids of jobs that the sweeper must end or publish: queued jobs that have expired, running ones whose deadline has passed
   * and whose worker is lost, and ended jobs whose end is not published. Oldest first.
   */
  async due(countMax: number): Promise<string[]> {
    return (await dueJobs(this.#redis, [DUE_KEY], [countMax])) as string[];
  }

  /** Looks at a due job again after a pause. */
  async postponeDue(jobId: string, pauseMs: number): Promise<void> {
    await postponeDue(this.#redis, [DUE_KEY], [jobId, pauseMs]);
  }

  /** Puts queued jobs into their lane that are in none, and gives running ones a lease that have none. */
  async repair(ids: readonly string[]): Promise<void> {
    const withoutLane = await this.#repair(ids.map((id) => ({ id })));
    const assignments = await Promise.all(withoutLane.map((id) => this.#laneAssignment(id)));
    const found = assignments.filter((assignment) => assignment !== null);
    if (found.length > 0) await this.#repair(found);
  }

  async #repair(orders: readonly (LaneAssignment | { readonly id: string })[]): Promise<string[]> {
    const keys = orders.flatMap(({ id }) => [jobKey(id), textKey(id)]);
    return (await repairJobs(this.#redis, keys, [JSON.stringify(orders)])) as string[];
  }

  async #laneAssignment(id: string): Promise<LaneAssignment | null> {
    const record = await this.record(id);
    if (record === null) return null;
    const { tenant, generation, requestOptions, cost, tokens } = record;
    const { text } = tokens === 0 ? record : await this.progress(id);
    const flow = flowOf(tenant, requestOptions.batch !== undefined);
    return { id, lane: laneOf(generation), flow, cost: Math.max(1, cost), text };
  }

  /** Removes a job from the due set: its record is gone. */
  async clearDue(jobId: string): Promise<void> {
    await this.#redis.zrem(DUE_KEY, jobId);
  }

  async record(jobId: string): Promise<JobRecord | null> {
    const fields = await this.#redis.hgetall(jobKey(jobId));
    if (Object.keys(fields).length === 0) return null;
    if (fields["shared"] === undefined) return toJobRecord(fields);
    const [sharedGeneration, sharedRequestOptions] = await this.#redis.hmget(
      sharedKey(fields["shared"]),
      "generation",
      "requestOptions",
    );
    // It is deleted with the last of its jobs.
    if (!sharedGeneration || !sharedRequestOptions) return null;
    return toJobRecord({ ...fields, sharedGeneration, sharedRequestOptions });
  }

  /** The output of a job, without its prompt; null if there is no such job. */
  async output(jobId: string): Promise<JobOutput | null> {
    const fields = ["tenant", "state", "text", "outcome", "outputTools"] as const;
    const values = await this.#redis.hmget(jobKey(jobId), ...fields);
    const read = fields.map((name, i) => [name, values[i] ?? undefined] as const);
    return values[0] ? v.parse(JobOutput, Object.fromEntries(read)) : null;
  }

  /** The events in the log after sequence number `after`; all, or the first `countMax`. */
  async log(jobId: string, after = 0, countMax?: number): Promise<JobEvent[]> {
    return (await this.entries(jobId, after, countMax)).map(toEvent);
  }

  /** The same events, not parsed. */
  async entries(jobId: string, after = 0, countMax?: number): Promise<LogEntry[]> {
    const range = [logKey(jobId), `(${after}-0`, "+"] as const;
    const entries = await (countMax === undefined
      ? this.#redis.xrange(...range)
      : this.#redis.xrange(...range, "COUNT", countMax));
    return entries.map(([id, [, type, , data]]) => {
      return { seq: Number.parseInt(id, 10), type: type!, data: data! };
    });
  }

  /** The text of a running job, or of one that has ended meanwhile. */
  async textSoFar(jobId: string): Promise<string> {
    const text = await this.#redis.get(textKey(jobId));
    return text ?? (await this.#redis.hget(jobKey(jobId), "text")) ?? "";
  }

  /**
   * The output so far, from the log. It reads and joins the whole log, up to 12 MB for a job with log-probabilities or a trace:
   * at a takeover, and at each read of an ended job with token details.
   */
  async progress(jobId: string): Promise<Progress> {
    const tokens = (await this.log(jobId)).filter((event) => event.type === "tokens");
    return {
      ids: tokens.flatMap((event) => event.ids),
      text: tokens.map((event) => event.text).join(""),
      ...joinTokenDetails(tokens),
    };
  }
}

const facetsOf = ({ generation: { model }, metadata, requestOptions, request }: NewJob) => {
  const isChat = request?.endpoint === CHAT_ENDPOINT && requestOptions.batch === undefined;
  return facetsField(model, metadata, isChat);
};

function poolOrder({ id, limits }: LimitPool): SubmitOrder["pools"][number] {
  const [requests, tokens, jobsMax] = (["requests", "tokens", "jobs"] as const).map((name) =>
    keyLimit(limits, name),
  );
  return {
    id,
    rates: { ...(requests != null && { requests }), ...(tokens != null && { tokens }) },
    ...(jobsMax != null && { jobsMax }),
  };
}

function toAdmissionResult(
  reply: Exclude<SubmitReply, readonly ["stored", ...unknown[]]>,
  pools: readonly LimitPool[],
): AdmissionResult {
  if (reply[0] === "existing") return { status: "existing", jobId: reply[1] };
  if (reply[0] === "conflict") return { status: "conflict" };
  if (reply[0] === "full")
    return { status: "full", counted: "open", bytesMax: LIMITS.requestBytesMax, waitMs: null };
  const [status, waitMs, requests, tokens, jobs, createdAtMs, pool] = reply;
  const rateLimits = { requests, tokens, jobs };
  if (status === "created") return { status, rateLimits, createdAtMs };
  return {
    status: "limited",
    limit: status,
    pool: pools[pool]!,
    waitMs: status === "jobs" ? null : waitMs,
    rateLimits,
  };
}
