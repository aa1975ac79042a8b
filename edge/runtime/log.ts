/**
 * The edge's log: one JSON object a line, with the worker's names of fields (worker/telemetry/log.ts). Only the log may contain
 * internal details, and no line contains a prompt, an output, a key, a ticket, or a URL's query.
 */
import { FATAL } from "../../shared/fatal-error.ts";
import { loggedError } from "../../shared/logged-error.ts";

/** pino's numbers, which the worker's lines have. */
const LEVELS = { debug: 20, info: 30, warn: 40, error: 50, fatal: FATAL };

export interface LogLine {
  readonly event: string;
  /** Default: error. */
  readonly level?: keyof typeof LEVELS;
  readonly requestId?: string;
  readonly jobId?: string;
  readonly error?: unknown;
  /** Further fields. */
  readonly details?: Readonly<Record<string, string | number>>;
}

export type Log = (entry: LogLine) => void;

export const log: Log = ({ event, level = "error", requestId, jobId, error, details }) => {
  // eslint-disable-next-line no-console -- on Cloudflare there is no other way to log
  console.error(
    JSON.stringify({
      level: LEVELS[level],
      time: Date.now(),
      msg: event,
      ...(jobId && { job: jobId }),
      ...(requestId && { request: requestId }),
      ...details,
      ...(error !== undefined && { err: loggedError(error) }),
    }),
  );
};
