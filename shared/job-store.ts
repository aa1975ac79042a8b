/**
 * Jobs in Redis, for both sides: submit, claim, append, finish, cancel, read.
 * It knows the record and the log, not the queue (BullMQ), not readers waiting for more (follow.ts), not HTTP.
 */
import * as v from "valibot";
import {
  isTerminal,
  type Job,
  type JobEvent,
  type Outcome,
  type TerminalState,
  type Usage,
} from "./contract.ts";
import { claimOf, type Claim, type ClaimReply } from "./claim.ts";
import { limitOf, type Admission, type Admitted, type LimitName } from "./admission.ts";
import { readAttempts } from "./delivery-store.ts";
import { flowOf } from "./fair-script.ts";
import type { Permit } from "./generation-queue.ts";
import { JobRecord, toEvent, type Generation, type NewJob } from "./job.ts";
import * as jobScripts from "./job-scripts.ts";
import { LIMITS } from "./limits.ts";
import { Outlook } from "./outlook.ts";
import { phaseOf, seconds, timingsOf } from "./phase.ts";
import type { RedisClient, Script } from "./redis-client.ts";
import { joinReports, type TokenReports } from "./reports.ts";
import { SUBMIT, type SubmitOrder } from "./submit-script.ts";
import { bellChannel, DUE_KEY, jobKey, logKey, permitLockKey } from "./redis-keys.ts";
import { deliveryIdOf, messageIdOf } from "./webhook.ts";

const scripts = { SUBMIT, ...jobScripts };

export type Append = "ok" | "cancel" | "fenced";

/** What a cancel did: ended a queued job, asked the worker of a running one, or found nothing to do. */
export type Cancel = "cancelled" | "asked" | "ended" | "missing";

/** What the log says was generated so far: the checkpoint from which a worker goes on. */
export interface Progress extends TokenReports {
  readonly ids: readonly number[];
  readonly text: string;
}

/** Of the script that submits. */
type Reply =
  | ["created" | LimitName, number, number, number, number]
  | ["existing", jobId: string]
  | ["conflict"];

const LIMIT_NAMES = ["requests", "tokens", "jobs"] as const;

const NOTHING_USED: Usage = {
  prompt_tokens: 0,
  completion_tokens: 0,
  total_tokens: 0,
  prompt_tokens_details: { cached_tokens: 0 },
  speculation: { drafted_tokens: 0, accepted_tokens: 0 },
};

/** Outcome of a job that ended before a worker had it. */
export const NEVER_RAN: Outcome = { finish_reason: null, usage: NOTHING_USED, error: null };

export class JobStore {
  readonly #redis: RedisClient;
  readonly #retentionMs: number;
  readonly #outlook: Outlook;

  /** @param retentionMs how long an ended job can still be read */
  constructor(redis: RedisClient, retentionMs: number) {
    this.#redis = redis;
    this.#retentionMs = retentionMs;
    this.#outlook = new Outlook(redis);
    for (const [name, lua] of Object.entries(scripts)) {
      redis.defineCommand(`trimtab${name}`, { lua });
    }
  }

  #run(
    script: keyof typeof scripts,
    jobIds: string | readonly string[],
    ...args: (string | number)[]
  ): Promise<unknown> {
    const commands = this.#redis as unknown as Record<string, Script>;
    const command = commands[`trimtab${script}`]!;
    const keys = [jobIds].flat().flatMap((id) => [jobKey(id), logKey(id), bellChannel(id)]);
    return command.call(this.#redis, keys.length, ...keys, ...args);
  }

  /** Writes the record and the first event. The caller queues the job afterwards. */
  submit(job: NewJob): Promise<Admitted> {
    return this.submitAll([job], { keyId: null, limits: {}, tokens: [0], repetition: null });
  }

  /** Writes the records and first events of one request's jobs, all or none. The caller queues them afterwards. */
  async submitAll(jobs: readonly NewJob[], admission: Admission): Promise<Admitted> {
    const { keyId, limits, tokens, repetition } = admission;
    const [requestsMax, tokensMax, jobsMax] = LIMIT_NAMES.map((name) => limitOf(limits, name));
    const args = jobs.map(fieldsOf);
    const order: SubmitOrder = {
      jobs: jobs.map(({ id, priority = 0, deadlineMs, startByMs, ...job }, i) => ({
        id,
        flow: flowOf(job),
        priority,
        expiresMs: Math.round(Math.min(deadlineMs, startByMs ?? Infinity)),
        tokens: tokens[i]!,
        args: args[i]!.length,
      })),
      rates: {
        ...(requestsMax != null && { requests: requestsMax }),
        ...(tokensMax != null && { tokens: tokensMax }),
      },
      costs: { requests: 1, tokens: tokens.reduce((sum, count) => sum + count, 0) },
      ...(keyId !== null && { keyId }),
      ...(jobsMax != null && { jobsMax }),
      ...(repetition && { repetition }),
    };
    const ids = jobs.map(({ id }) => id);
    const reply = (await this.#run("SUBMIT", ids, JSON.stringify(order), ...args.flat())) as Reply;
    if (reply[0] === "existing") return { status: "existing", jobId: reply[1] };
    if (reply[0] === "conflict") return { status: "conflict" };
    const [status, waitMs, requestsLeft, tokensLeft, jobCount] = reply;
    const jobsLeft = Math.max(0, (jobsMax ?? jobCount) - jobCount);
    const standing = { requests: requestsLeft, tokens: tokensLeft, jobs: jobsLeft };
    if (status === "created") return { status, standing };
    return {
      status: "limited",
      limit: status,
      waitMs: status === "jobs" ? null : waitMs,
      standing,
    };
  }

  /** @param permit by which the caller may; without one it just may */
  async claim(jobId: string, attemptsMax: number, permit?: Permit): Promise<Claim> {
    const lock = permit ? [permitLockKey(permit.id), permit.token] : [];
    const args = [Date.now(), attemptsMax, ...lock];
    return claimOf((await this.#run("CLAIM", jobId, ...args)) as ClaimReply);
  }

  /** Notes that the engine has begun with the prompt. */
  async prefilling(jobId: string, attempt: number, promptTokens: number): Promise<void> {
    await this.#run("PREFILL", jobId, attempt, Date.now(), promptTokens);
  }

  /** @param at count of the job's tokens before these */
  async appendTokens(
    jobId: string,
    attempt: number,
    at: number,
    tokens: Progress,
  ): Promise<Append> {
    const { ids } = tokens;
    const data = JSON.stringify(tokens);
    const args = [attempt, at, at + ids.length, data, Date.now()];
    const reply = await this.#run("APPEND", jobId, ...args);
    return reply === 1 ? "ok" : reply === 2 ? "cancel" : "fenced";
  }

  /** Ends the job; false if the caller lost it or it had ended already. */
  async finish(
    jobId: string,
    attempt: number,
    state: TerminalState,
    text: string,
    outcome: Outcome,
  ): Promise<boolean> {
    const args = [attempt, state, Date.now(), this.#retentionMs, text, JSON.stringify(outcome)];
    return (await this.#run("FINISH", jobId, ...args)) === 1;
  }

  /**
   * Ends a job that no worker is at, with what the log and the record have of it.
   * @returns the ended job's record, or null if there is none, or somebody has taken it up
   */
  async giveUp(
    { id, attempt, promptTokens }: JobRecord,
    state: TerminalState,
    error: Outcome["error"],
  ): Promise<JobRecord | null> {
    const { ids, text } = await this.progress(id);
    const usage = {
      ...NOTHING_USED,
      prompt_tokens: promptTokens,
      completion_tokens: ids.length,
      total_tokens: promptTokens + ids.length,
    };
    await this.finish(id, attempt, state, text, { ...NEVER_RAN, usage, error });
    const after = await this.record(id);
    return after && isTerminal(after.state) ? after : null;
  }

  /** Idempotent: an ended job stays as it is, a running one is cancelled by its worker at the next token. */
  async cancel(jobId: string): Promise<Cancel> {
    const reply = await this.#run(
      "CANCEL",
      jobId,
      Date.now(),
      this.#retentionMs,
      JSON.stringify(NEVER_RAN),
    );
    return reply === 1 ? "cancelled" : reply === 2 ? "asked" : reply === 0 ? "ended" : "missing";
  }

  /** Deletes the job, after cancelling it; its worker finds that it lost it. */
  async delete(jobId: string): Promise<void> {
    await this.#run("DELETE", jobId, Date.now(), this.#retentionMs, JSON.stringify(NEVER_RAN));
  }

  /** Ids of jobs whose deadline has passed, and of ended ones that nobody has announced, oldest first. */
  due(nowMs: number, countMax: number): Promise<string[]> {
    return this.#redis.zrangebyscore(DUE_KEY, 0, nowMs, "LIMIT", 0, countMax);
  }

  /** Says that there is nothing left to do: the job's record is gone. */
  async settle(jobId: string): Promise<void> {
    await this.#redis.zrem(DUE_KEY, jobId);
  }

  async record(jobId: string): Promise<JobRecord | null> {
    const fields = await this.#redis.hgetall(jobKey(jobId));
    return Object.keys(fields).length === 0 ? null : v.parse(JobRecord, fields);
  }

  /** Events after sequence number `after`, as the log has them now; all, or the first `countMax`. */
  async log(jobId: string, after = 0, countMax?: number): Promise<JobEvent[]> {
    const range = [logKey(jobId), `(${after}-0`, "+"] as const;
    const entries = await (countMax === undefined
      ? this.#redis.xrange(...range)
      : this.#redis.xrange(...range, "COUNT", countMax));
    return entries.map(([id, [, type, , data]]) => toEvent(Number.parseInt(id, 10), type!, data!));
  }

  async progress(jobId: string): Promise<Progress> {
    const tokens = (await this.log(jobId)).filter((event) => event.type === "tokens");
    return {
      ids: tokens.flatMap((event) => event.ids),
      text: tokens.map((event) => event.text).join(""),
      ...joinReports(tokens),
    };
  }

  /** Text and reports; the log is read only where the record does not have all. */
  async #output({ id, text, generation }: JobRecord, ended: boolean) {
    const { grammar, logprobs, trace } = generation;
    if (ended && !grammar && logprobs === undefined && !trace) return { text };
    const { ids: _, masked, ...told } = await this.progress(id);
    const output = { ...told, ...(masked && { masked_mean: mean(masked) }) };
    return ended ? { ...output, text } : output;
  }

  /** The job as its owner sees it. */
  async view(record: JobRecord): Promise<Job> {
    const ended = isTerminal(record.state);
    const outcome = (ended ? record.outcome : NEVER_RAN) as Outcome;
    const output = await this.#output(record, ended);
    const delivery = deliveryIdOf(messageIdOf(record.id), null);
    const deliveries = record.webhookUrl
      ? await readAttempts(this.#redis, record.tenant, delivery)
      : [];
    return {
      id: record.id,
      object: "job",
      model: record.generation.model,
      state: record.state,
      phase: phaseOf(record),
      timings: timingsOf(record),
      queue: record.state === "queued" ? await this.#outlook.ofJob(record) : null,
      created_at: seconds(record.createdAtMs),
      started_at: seconds(record.startedAtMs),
      ended_at: seconds(record.endedAtMs),
      deleted_at: seconds(record.deletedAtMs),
      priority: record.priority,
      attempts: record.attempt,
      cancel_requested: record.cancelRequested,
      steering: steeringOf(record.generation),
      seed: record.generation.seed,
      output: { ...output, finish_reason: outcome.finish_reason },
      usage: ended ? outcome.usage : null,
      error: outcome.error,
      metadata: record.metadata,
      webhook: record.webhookUrl ? { url: record.webhookUrl, deliveries } : null,
    };
  }
}

/** Field, value, ... of a new job's hash. */
function fieldsOf(job: NewJob): string[] {
  const fields = {
    id: job.id,
    tenant: job.tenant,
    state: "queued",
    attempt: "0",
    generation: JSON.stringify(job.generation),
    asked: JSON.stringify(job.asked),
    ...(job.asked.store === false && { keepMs: String(LIMITS.unstoredMs) }),
    webhookUrl: job.webhookUrl ?? "",
    metadata: JSON.stringify(job.metadata),
    createdAtMs: String(job.createdAtMs),
    deadlineMs: String(Math.round(job.deadlineMs)),
    priority: String(job.priority ?? 0),
    ...(job.startByMs != null && { startByMs: String(Math.round(job.startByMs)) }),
  };
  return Object.entries(fields).flat();
}

export function steeringOf({ alpha, schedule, pairs, guards, trace }: Generation): Job["steering"] {
  return {
    alpha,
    ...(schedule && { schedule }),
    ...(pairs && { pairs }),
    ...(guards && { guards: publicGuards(guards) }),
    ...(trace && { trace }),
  };
}

function publicGuards({ baseNucleus, klBudget, fallback }: NonNullable<Generation["guards"]>) {
  return {
    ...(baseNucleus !== undefined && { base_nucleus: baseNucleus }),
    ...(klBudget !== undefined && { kl_budget: klBudget }),
    ...(fallback !== undefined && { fallback }),
  };
}

const mean = (values: readonly number[]) =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
