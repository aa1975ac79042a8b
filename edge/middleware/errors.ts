/** From what was thrown to the reply: a JSON body always, and nothing in it that was meant for the log. */
import type { ErrorHandler, NotFoundHandler } from "hono";
import { AppError, ERRORS } from "../../shared/errors.ts";
import type { AppContext, AppEnv } from "../context.ts";
import type { Log } from "../log.ts";

/** Seconds; long enough for a failover's first step, short enough for a person who waits. */
const RETRY_AFTER_SECONDS = 2;

export function handleError(log: Log): ErrorHandler<AppEnv> {
  return function handleError(error, c) {
    const { requestId } = c.var;
    const known = toAppError(error);
    if (known.status >= 500) log({ event: known.code, requestId, error });
    return replyError(c, known);
  };
}

export function methodNotAllowed(c: AppContext, allowed: string[]): Response {
  c.header("Allow", allowed.join(", "));
  return replyError(c, new AppError("method_not_allowed", `Expected ${allowed.join(" or ")}`));
}

/** Not thrown, so that the middleware which knows the methods of known paths may still answer 405. */
export const notFound: NotFoundHandler<AppEnv> = (c) =>
  replyError(c, new AppError("not_found", "There is nothing at this path"));

/** The error as callers may see it: a bug tells them only that it is one. */
export function toAppError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  return new AppError("internal", "An internal error occurred", { cause: error });
}

function replyError(c: AppContext, error: AppError): Response {
  const { retry } = ERRORS[error.code];
  if (retry) c.header("Retry-After", String(RETRY_AFTER_SECONDS));
  // The `openai` clients retry every 409 and 5xx unless told: a job that failed would run again, twice.
  c.header("x-should-retry", String(retry));
  return c.json(error.toBody(c.var.requestId), error.status);
}
