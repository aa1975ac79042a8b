/**
 * The text that a stream hub sends to a request: a line for each entry of the log, an empty line as a heartbeat, and a line
 * that begins with `!` if an error ends the text.
 */
import { ERRORS, type ErrorCode } from "../../shared/api/error-codes.ts";
import { AppError } from "../../shared/api/errors.ts";
import type { LogEntry } from "../../shared/jobs/log-entry.ts";
import { isRedisFailure, queueUnavailable } from "./connection.ts";

/** The paths of a hub's requests: to follow a job's log, to wait for a job's end, and to follow a tenant's inbox. */
export const HUB_PATHS = ["job", "job-end", "inbox"] as const;
export type HubPath = (typeof HUB_PATHS)[number];

/** An event as the log has it: its data is passed on without being parsed. No part of it holds a line break. */
export function toLine({ seq, type, data }: LogEntry): string {
  return `${seq} ${type} ${data}`;
}

/** The inverse of `toLine`. */
export function fromLine(line: string): LogEntry {
  const first = line.indexOf(" ");
  const second = line.indexOf(" ", first + 1);
  return {
    seq: Number(line.slice(0, first)),
    type: line.slice(first + 1, second),
    data: line.slice(second + 1),
  };
}

const FAILURE = /^!(\w+) (.*)$/;

/** The line for an error: one for the caller (its code), a failure of Redis, or a bug in the hub. */
export function toFailureLine(error: unknown): string {
  if (error instanceof AppError) return `!${error.code} ${error.message}`;
  return `!${isRedisFailure(error) ? "redis" : "bug"} ${String(error).replaceAll("\n", " ")}`;
}

/** The error that a line reports, or null for any other line. */
export function failureOf(line: string): Error | null {
  const [, kind, message] = FAILURE.exec(line) ?? [];
  if (kind === undefined || message === undefined) return null;
  if (Object.hasOwn(ERRORS, kind)) return new AppError(kind as ErrorCode, message);
  const error = new Error(`Stream hub: ${message}`);
  return kind === "redis" ? queueUnavailable(error) : error;
}
