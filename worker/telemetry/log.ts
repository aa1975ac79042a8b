/** The worker's log, JSON lines written by pino. Lines contain names and numbers, never a prompt, an output or an API key. */
import { pino, type DestinationStream, type Logger } from "pino";
import type { JobRecord } from "../../shared/jobs/record.ts";

/** @param destination default: standard output */
export function createLog(level: string, destination?: DestinationStream): Logger {
  const options = { level, base: { pid: process.pid }, serializers: { err: serializeError } };
  return destination ? pino(options, destination) : pino(options);
}

/** A logger for one attempt at a job: adds the ids of the job, its request, batch and trace, and the attempt's number. */
export function jobLogger(log: Logger, { id, requestOptions }: JobRecord, attempt: number): Logger {
  const { requestId, batch, traceparent } = requestOptions;
  return log.child({
    job: id,
    ...(requestId && { request: requestId }),
    ...(batch && { batch }),
    ...(traceparent && { traceparent }),
    attempt,
  });
}

interface SerializedError {
  readonly type: string;
  readonly code?: unknown;
  readonly message: string;
  readonly stack?: string | undefined;
  readonly cause?: SerializedError;
}

/**
 * Replaces pino's serializer, which writes every field of an error. An error from Redis has the command as a field, and the
 * command may contain a job's text.
 */
function serializeError(error: unknown): SerializedError {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) };
  const { name: type, message, stack, cause } = error;
  return {
    type,
    ...("code" in error && { code: error.code }),
    message,
    stack,
    ...(cause !== undefined && { cause: serializeError(cause) }),
  };
}
