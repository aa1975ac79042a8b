/** Turns a thrown error into a reply with a JSON body. Details that only the log may contain are left out. */
import type { ErrorHandler, NotFoundHandler } from "hono";
import { ERRORS } from "../../shared/api/error-codes.ts";
import { AppError, type ErrorBody } from "../../shared/api/errors.ts";
import { hasMessageErrors, messageError } from "../../shared/protocols/message-errors.ts";
import { BucketError } from "../../shared/files/bucket.ts";
import { NewerRecord } from "../../shared/redis/version.ts";
import type { AppContext, AppEnv } from "../http/context.ts";
import { isRedisFailure, queueUnavailable } from "../redis/connection.ts";
import type { Log, LogLine } from "../runtime/log.ts";

/** The default wait: long enough for the first step of a Redis failover, short enough for a person who waits. */
const RETRY_AFTER_MS = 2_000;
/**
 * The longest wait after which clients retry automatically: beyond it `x-should-retry` is false, because some `openai` clients
 * would wait twice as long, and others would not wait.
 */
const RETRY_WAIT_MS_MAX = 60_000;

/** The handler of every error that a route or middleware throws. */
export function handleError(log: Log): ErrorHandler<AppEnv> {
  return function handleError(error, c) {
    return replyError(c, toAppError(error, log, { requestId: c.var.requestId }));
  };
}

/** The reply 405, with the methods that the path takes in `Allow`. */
export function methodNotAllowed(c: AppContext, allowed: string[]): Response {
  c.header("Allow", allowed.join(", "));
  const isWebSocket = c.req.header("upgrade")?.toLowerCase() === "websocket";
  const message = isWebSocket
    ? "WebSockets are not supported: send each request with POST and `stream: true`, and read its server-sent events"
    : `Expected ${allowed.join(" or ")}`;
  return replyError(c, new AppError("method_not_allowed", message));
}

/** Returned, not thrown, so that the methodNotAllowed middleware can still answer 405. */
export const notFound: NotFoundHandler<AppEnv> = (c) =>
  replyError(c, new AppError("not_found", "There is nothing at this path"));

/** The body for an error in a job's stream, after the status was sent. */
export function streamErrorBody(c: AppContext, log: Log, jobId: string, error: unknown): ErrorBody {
  return streamError(c, log, jobId, error).toBody(c.var.requestId);
}

/** The error that the reader of a job's stream gets. */
export function streamError(c: AppContext, log: Log, jobId: string, error: unknown): AppError {
  return toAppError(error, log, { requestId: c.var.requestId, jobId });
}

/**
 * The error that the caller gets. For an unexpected error this is only the code `internal`, and the error itself is logged.
 * The error of a failed job has no cause and is not logged here: its worker has logged it.
 */
function toAppError(error: unknown, log: Log, request: Omit<LogLine, "event">): AppError {
  const known = knownError(error);
  if (known.status >= 500 && known.cause !== undefined) {
    log({ event: known.code, ...request, error: known });
  }
  return known;
}

function knownError(error: unknown): AppError {
  if (error instanceof AppError) return error;
  if (isRedisFailure(error)) return queueUnavailable(error);
  if (error instanceof NewerRecord) {
    const message =
      "A newer release has stored this object; this server is being upgraded, try again";
    return new AppError("upgrade_in_progress", message, { cause: error });
  }
  if (error instanceof BucketError) {
    const message = "The file storage does not answer; try again";
    return new AppError("storage_unavailable", message, { cause: error });
  }
  return new AppError("internal", "An internal error occurred", { cause: error });
}

function replyError(c: AppContext, error: AppError): Response {
  const { retry } = ERRORS[error.code];
  const waitMs = error.retryAfterMs ?? RETRY_AFTER_MS;
  const retrySoon = retry && waitMs <= RETRY_WAIT_MS_MAX;
  if (error.status === 401) c.header("WWW-Authenticate", 'Bearer realm="trimtab"');
  if (retry) c.header("Retry-After", String(Math.ceil(waitMs / 1000)));
  if (retrySoon) c.header("retry-after-ms", String(waitMs));
  // By default the `openai` clients retry every 409 and 5xx: a job that failed would run twice more.
  c.header("x-should-retry", String(retrySoon));
  const { requestId } = c.var;
  if (hasMessageErrors(c.req.path)) {
    c.header("request-id", requestId);
    return c.body(JSON.stringify(messageError(error, requestId)), error.status, {
      "Content-Type": "application/json",
    });
  }
  // The `openai` clients parse a body of any type whose name contains "json", and read its `error`.
  const type = { "Content-Type": "application/problem+json" };
  return c.body(JSON.stringify(error.toProblem(requestId)), error.status, type);
}
