/** The edge's log: one JSON object a line, as Workers Logs index it. Here, and only here, internals may be told. */

export interface LogEntry {
  readonly event: string;
  readonly requestId?: string;
  readonly jobId?: string;
  readonly error?: unknown;
}

export type Log = (entry: LogEntry) => void;

export const log: Log = ({ error, ...entry }) => {
  // eslint-disable-next-line no-console -- a Worker has no other way to log
  console.error(
    JSON.stringify({ ...entry, ...(error !== undefined && { error: describe(error) }) }),
  );
};

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause === undefined ? "" : `\ncaused by ${describe(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
