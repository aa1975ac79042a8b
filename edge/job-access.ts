/** The caller's jobs, and from which event on they are read. */
import { isTerminal } from "../shared/contract.ts";
import { AppError } from "../shared/errors.ts";
import type { JobRecord } from "../shared/job.ts";
import { requireJobOf } from "../shared/submission.ts";
import type { AppContext } from "./context.ts";
import { askerOf } from "./submission.ts";

/** The caller's job; whether a foreign one exists must not show. @throws AppError not_found */
export function requireJob(c: AppContext, name: string): Promise<JobRecord> {
  return requireJobOf(askerOf(c), name);
}

/** Whether a read asks for events. @throws AppError invalid_request */
export function wantsStream(c: AppContext): boolean {
  const stream = c.req.query("stream") ?? "false";
  if (stream === "true" || stream === "false") return stream === "true";
  throw new AppError("invalid_request", "stream must be true or false", { param: "stream" });
}

/**
 * The last event that the reader has, or null: a browser's own header wins, because it is the newer one on a reconnect.
 * @throws AppError invalid_request
 */
export function readCursor(c: AppContext): number | null {
  const { after, starting_after } = c.req.query();
  const given = [c.req.header("last-event-id"), after, starting_after].filter((cursor) => cursor);
  const isNumber = (cursor?: string) => /^\d{1,15}$/.test(cursor!);
  if (!given.every(isNumber)) throw badCursor(c, "must be the number of an event");
  return given.length === 0 ? null : Number(given[0]);
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
