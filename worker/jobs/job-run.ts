/** One attempt at a job that runs in this worker, and how it is stopped, in every phase. */
import type { TerminalState } from "../../shared/api/jobs.ts";
import type { RunningAttempt } from "../../shared/jobs/leases.ts";

/** Why a run ends early. "fenced": this worker may not write to the job any more, because it has ended, was given up, or has another worker. */
export type StopReason = Exclude<TerminalState, "succeeded" | "failed"> | "fenced";

/**
 * The engine may be in the middle of a long step when its run is stopped. The job ends this long after that at the latest,
 * even if the engine has not answered yet.
 */
const GRACE_MS = 100;

export class JobRun implements RunningAttempt {
  readonly id: string;
  readonly attempt: number;
  readonly claim: string;
  phase: "loading" | "prefill" | "decode" | "ending" = "loading";
  /** Tokens that this attempt has generated. */
  tokens = 0;
  /** Called when the event log has more tokens of the output: how many before, and how many now. */
  onLogged: (before: number, after: number) => void = () => {};
  readonly #controller = new AbortController();
  #isOverdue = false;
  #onOverdue = () => {};
  #reason: StopReason | null = null;

  constructor({ id, attempt, claim }: RunningAttempt) {
    this.id = id;
    this.attempt = attempt;
    this.claim = claim;
  }

  /** Aborted when the run is stopped. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Null while the run is not stopped. */
  get stopReason(): StopReason | null {
    return this.#reason;
  }

  /** Stops the run. The first reason counts. */
  stop(reason: StopReason): void {
    if (this.#reason !== null) return;
    this.#reason = reason;
    this.#controller.abort();
    setTimeout(() => {
      this.#isOverdue = true;
      this.#onOverdue();
    }, GRACE_MS);
  }

  /** The run's events until it ends, or until it was stopped and has not ended in time. */
  async *until<T>(events: AsyncGenerator<T, void, undefined>): AsyncGenerator<T, void, undefined> {
    try {
      for (;;) {
        const next = await this.#orOverdue(events.next());
        if (next === null || next.done === true) return;
        yield next.value;
      }
    } finally {
      // Not awaited: it resolves when the engine answers.
      events.return().catch(() => {});
    }
  }

  /** Null if the run is overdue. A race with one promise for all events would keep memory for each of them until the end of the run. */
  #orOverdue<T>(event: Promise<T>): Promise<T | null> {
    return new Promise((resolve, reject) => {
      this.#onOverdue = () => resolve(null);
      if (this.#isOverdue) resolve(null);
      event.then(resolve, reject);
    });
  }
}
