/**
 * Decides how many tokens to draft for a remote base, from what was measured: how often drafts are accepted, and what calls
 * take. The time of a call is a constant (the network) and a part for each row (the server's arithmetic). On a busy server
 * the second one grows, and fewer tokens are drafted.
 */
import { RunningMean } from "../decode/draft.ts";
import type { CallCost } from "../remote/remote-base.ts";
import type { CostLine } from "./cost-line.ts";

/** Most drafts in a call. */
const DRAFTS_MAX = 12;

export class DraftPolicy {
  readonly #times: CostLine;
  readonly #isOn: boolean;
  readonly #acceptance = new RunningMean(0.7, 4);

  constructor(times: CostLine, isOn: boolean) {
    this.#times = times;
    this.#isOn = isOn;
  }

  /** Drafts that give the most tokens for the time of a call. */
  get length(): number {
    if (!this.#isOn) return 0;
    const { runMs, rowMs } = this.#times.line;
    const acceptance = this.#acceptance.value;
    let [best, bestSpeed, expected] = [0, 0, 0];
    for (let drafts = 0; drafts <= DRAFTS_MAX; drafts++) {
      expected += acceptance ** drafts;
      const speed = expected / (runMs + rowMs * (drafts + 1));
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
