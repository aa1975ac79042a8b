/** The entries of a job's event log. */
import { isTerminal, JOB_STATES } from "../api/jobs.ts";
import type { JobEvent } from "../api/job-events.ts";

/** An event in the form in which the log holds it. */
export interface LogEntry {
  readonly seq: number;
  readonly type: string;
  /** JSON text of an object: the event's other members. */
  readonly data: string;
}

/** The event with its data parsed. */
export function toEvent({ seq, type, data }: LogEntry): JobEvent {
  return { seq, type, ...(JSON.parse(data) as object) } as JobEvent;
}

/** The event as JSON text. Its data is not parsed. */
export function eventJson({ seq, type, data }: LogEntry): string {
  const head = `{"seq":${seq},"type":"${type}"`;
  return data === "{}" ? `${head}}` : `${head},${data.slice(1)}`;
}

/** Types of a job's last event: the terminal states. */
const LAST_TYPES: ReadonlySet<string> = new Set(JOB_STATES.filter(isTerminal));

/** Whether an event of this type is the last one of its job. */
export function isLastType(type: string): boolean {
  return LAST_TYPES.has(type);
}
