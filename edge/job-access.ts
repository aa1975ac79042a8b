/**
 * Jobs under the names that the protocols give them, and whose they are. One job is `job_X`, `resp_X`,
 * `chatcmpl-job_X` and `cmpl-job_X`: any of these names reads it, in whatever protocol it was asked for.
 */
import { isTerminal } from "../shared/contract.ts";
import { AppError } from "../shared/errors.ts";
import type { JobRecord, NewJob } from "../shared/job.ts";
import type { AppContext } from "./context.ts";

export const responseId = (jobId: string) => jobId.replace(/^job_/, "resp_");
export const messageId = (jobId: string) => jobId.replace(/^job_/, "msg_");
export const jobIdOf = (name: string) => name.replace(/^(resp_|(chat)?cmpl-job_)/, "job_");

/** Id of a request's k-th job, by that of its first. */
export const choiceId = (jobId: string, k: number) => (k === 0 ? jobId : `${jobId}-${k}`);

/** Ids of all jobs of the request whose first (or only) job this is. */
export function choiceIds({ id, asked }: Pick<NewJob, "id" | "asked">): string[] {
  return Array.from({ length: asked.choices ?? 1 }, (_, k) => choiceId(id, k));
}

/** The caller's job; whether a foreign one exists must not show. @throws AppError not_found */
export async function requireJob(c: AppContext, name: string, param?: string): Promise<JobRecord> {
  const record = await c.var.backend.record(jobIdOf(name));
  if (record === null || record.tenant !== c.var.principal.tenant) throw noSuchJob(param);
  return record;
}

export function noSuchJob(param?: string): AppError {
  const message = "There is no such job; ended jobs are deleted after a while";
  return new AppError("not_found", message, param === undefined ? {} : { param });
}

/**
 * The last event that the reader has, or null: a browser's own header wins, because it is the newer one on a reconnect.
 * @throws AppError invalid_request
 */
export function readCursor(c: AppContext): number | null {
  const cursor =
    c.req.header("last-event-id") || c.req.query("after") || c.req.query("starting_after");
  if (!cursor) return null;
  if (!/^\d{1,15}$/.test(cursor)) throw badCursor(c, "must be the number of an event");
  return Number(cursor);
}

/**
 * Whether the reader has all that will ever be: 204 tells so to an EventSource, which reconnects whenever a stream ends.
 * @throws AppError invalid_request for a cursor beyond the last event of a job that goes on
 */
export function nothingAfter(c: AppContext, after: number, { seq, state }: JobRecord): boolean {
  if (isTerminal(state)) return after >= seq;
  if (after > seq) throw badCursor(c, `must be at most ${seq}, the last event so far`);
  return false;
}

export function badCursor(c: AppContext, complaint: string): AppError {
  const param = c.req.query("starting_after") ? "starting_after" : "after";
  return new AppError("invalid_request", `${param} ${complaint}`, { param });
}
