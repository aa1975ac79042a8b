/**
 * Decides how many tokens to draft for a remote base, from what was measured: how often drafts are accepted, and what calls
 * take. The time of a call is a constant (the network) and a part for each row (the server's arithmetic). On a busy server
 * the second one grows, and fewer tokens are drafted.
 */
import { RunningMean } from "../decode/draft.ts";
import type { CallCost } from "../remote/remote-base.ts";

/** Most drafts in a call. */
const DRAFTS_MAX = 12;

/** Call times of a base, shared by all its sequences: they share its load. */
export class CallTimes {
  readonly #ms = new RunningMean(1, 0);
  readonly #rows = new RunningMean(1, 0);
  readonly #rowsSquared = new RunningMean(1, 0);
  readonly #product = new RunningMean(1, 0);

  record({ ms, rows }: CallCost): void {
    this.#ms.observe(ms);
    this.#rows.observe(rows);
    this.#rowsSquared.observe(rows * rows);
    this.#product.observe(rows * ms);
  }

  /** Milliseconds of a call without rows, and of each row: the line of least squares through the latest calls. */
  get line(): { readonly callMs: number; readonly rowMs: number } {
    const [ms, rows] = [this.#ms.value, this.#rows.value];
    const variance = this.#rowsSquared.value - rows * rows;
    const covariance = this.#product.value - rows * ms;
    // With calls of about one size the slope is unknown: a row is then taken to be a small part of the call.
    const slope = variance > 0.2 ? covariance / variance : 0.1 * (ms / (1 + 0.1 * rows));
    const rowMs = Math.min(Math.max(0, slope), ms / Math.max(1, rows));
    return { callMs: ms - rowMs * rows, rowMs };
  }
}

export class DraftPolicy {
  readonly #times: CallTimes;
  readonly #isOn: boolean;
  readonly #acceptance = new RunningMean(0.7, 4);

  constructor(times: CallTimes, isOn: boolean) {
    this.#times = times;
    this.#isOn = isOn;
  }

  /** Drafts that give the most tokens for the time of a call. */
  get length(): number {
    if (!this.#isOn) return 0;
    const { callMs, rowMs } = this.#times.line;
    const acceptance = this.#acceptance.value;
    let [best, bestSpeed, expected] = [0, 0, 0];
    for (let drafts = 0; drafts <= DRAFTS_MAX; drafts++) {
      expected += acceptance ** drafts;
      const speed = expected / (callMs + rowMs * (drafts + 1));
      if (speed > bestSpeed) [best, bestSpeed] = [drafts, speed];
    }
    return best;
  }

  /** Whether the token of a position was the expert's. */
  observe(isAccepted: boolean): void {
    this.#acceptance.observe(isAccepted ? 1 : 0);
  }

  recordCall(cost: CallCost): void {
    this.#times.record(cost);
  }
}
