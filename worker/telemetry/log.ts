/** The worker's log, JSON lines written by pino. Lines contain names and numbers, never a prompt, an output or an API key. */
import { pino, type DestinationStream, type Logger } from "pino";
import type { JobRecord } from "../../shared/jobs/record.ts";
import { loggedError } from "../../shared/logged-error.ts";

/** @param destination default: standard output */
export function createLog(level: string, destination?: DestinationStream): Logger {
  const options = { level, base: { pid: process.pid }, serializers: { err: loggedError } };
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
