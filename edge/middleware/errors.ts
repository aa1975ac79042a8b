/** From what was thrown to the reply: a JSON body always, and nothing in it that was meant for the log. */
import type { ErrorHandler, NotFoundHandler } from "hono";
import { AppError, ERRORS, type ErrorBody } from "../../shared/errors.ts";
import type { AppContext, AppEnv } from "../context.ts";
import type { Log, LogEntry } from "../log.ts";

/** Where it is not known: long enough for a failover's first step, short enough for a person who waits. */
const RETRY_AFTER_MS = 2_000;
/** For longer waits, `openai` clients are told not to retry: some wait twice as long, others not at all. */
const RETRY_WAIT_MS_MAX = 60_000;

export function handleError(log: Log): ErrorHandler<AppEnv> {
  return function handleError(error, c) {
    return replyError(c, known(error, log, { requestId: c.var.requestId }));
  };
}

export function methodNotAllowed(c: AppContext, allowed: string[]): Response {
  c.header("Allow", allowed.join(", "));
  return replyError(c, new AppError("method_not_allowed", `Expected ${allowed.join(" or ")}`));
}

/** Not thrown, so that the middleware which knows the methods of known paths may still answer 405. */
export const notFound: NotFoundHandler<AppEnv> = (c) =>
  replyError(c, new AppError("not_found", "There is nothing at this path"));

/** The body of an error that befell a job's stream, whose status was sent before. */
export function streamErrorBody(c: AppContext, log: Log, jobId: string, error: unknown): ErrorBody {
  const { requestId } = c.var;
  return known(error, log, { requestId, jobId }).toBody(requestId);
}

/**
 * The error as callers may see it: a bug tells them only that it is one. What went wrong here is logged; what went
 * wrong with a job has no cause here, and its worker logged it.
 */
function known(error: unknown, log: Log, request: Omit<LogEntry, "event">): AppError {
  const known =
    error instanceof AppError
      ? error
      : new AppError("internal", "An internal error occurred", { cause: error });
  if (known.status >= 500 && known.cause !== undefined) {
    log({ event: known.code, ...request, error: known });
  }
  return known;
}

function replyError(c: AppContext, error: AppError): Response {
  const { retry } = ERRORS[error.code];
  const waitMs = error.retryAfterMs ?? RETRY_AFTER_MS;
  const retrySoon = retry && waitMs <= RETRY_WAIT_MS_MAX;
  if (retry) c.header("Retry-After", String(Math.ceil(waitMs / 1000)));
  if (retrySoon) c.header("retry-after-ms", String(waitMs));
  // The `openai` clients retry every 409 and 5xx unless told: a job that failed would run again, twice.
  c.header("x-should-retry", String(retrySoon));
  // The `openai` clients read any type that holds the word json, and the `error` in it.
  const type = { "Content-Type": "application/problem+json" };
  return c.body(JSON.stringify(error.toProblem(c.var.requestId)), error.status, type);
}
