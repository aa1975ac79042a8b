/** The worker's log: JSON lines by pino. What a line says of a job is names and numbers, never its prompt, its text or a key. */
import { pino, type DestinationStream, type Logger } from "pino";
import type { JobRecord } from "../shared/job.ts";

export function createLog(level: string, destination?: DestinationStream): Logger {
  const options = { level, base: { pid: process.pid }, serializers: { err: plainError } };
  return destination ? pino(options, destination) : pino(options);
}

/** Of an attempt at a job: every line of it carries these. */
export function jobLog(log: Logger, { id, asked }: JobRecord, attempt: number): Logger {
  const { requestId, batch, traceparent } = asked;
  return log.child({
    job: id,
    ...(requestId && { request: requestId }),
    ...(batch && { batch }),
    ...(traceparent && { traceparent }),
    attempt,
  });
}

interface PlainError {
  readonly type: string;
  readonly code?: unknown;
  readonly message: string;
  readonly stack?: string | undefined;
  readonly cause?: PlainError;
}

/** Not pino's own, which tells every member: a reply error of Redis has the command, and so the text that it was to write. */
function plainError(error: unknown): PlainError {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) };
  const { name: type, message, stack, cause } = error;
  return {
    type,
    ...("code" in error && { code: error.code }),
    message,
    stack,
    ...(cause !== undefined && { cause: plainError(cause) }),
  };
}
