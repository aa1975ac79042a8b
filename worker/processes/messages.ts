/** The messages between a parent process and its generating process, over Node's IPC channel. */

/** A question of the parent process; `id` numbers the questions of one process. */
export interface Question {
  readonly id: number;
  readonly withMetrics: boolean;
}

export interface ProcessState {
  /** Why the process takes no work now, in a sentence; null if it does. */
  readonly problem: string | null;
  /** Why each of its models whose base is on another server cannot be served now, by the model's id. */
  readonly away: Readonly<Record<string, string>>;
  /** Its metrics, as `getMetricsAsJSON` of prom-client gives them; empty if they were not asked for. */
  readonly metrics: readonly object[];
}

export interface Answer {
  /** That of the question; 0 for the message, sent once without a question, that the process has started. */
  readonly id: number;
  readonly state: ProcessState;
}

/** A text for the process that takes a lost one's place: from the process that is lost later, and to its replacement as the first message. */
export interface Keep {
  readonly keep: string;
}

/** Argument of a process that is such a replacement. */
export const REPLACEMENT = "replacement";

/**
 * Exit code of a generating process that cannot start: a wrong model, an execution provider that does not work. A new start
 * would fail in the same way, so the parent process ends too.
 */
export const CANNOT_START = 78;
