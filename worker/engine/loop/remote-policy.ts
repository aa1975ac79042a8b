/**
 * Chooses how the next tokens of a sequence over a remote base are drafted, from what was measured: how often each drafter is
 * right, and what calls cost at the present load. Drafts decide how many calls are made, never the tokens.
 *
 * - `expert`: the expert's own tokens, with the noise of their positions. One call has the rows after each of them.
 * - `lookup`: what followed the same three tokens earlier in the text. Costs no run of the expert.
 * - `base`: the base's own continuation, streamed with its rows, for as long as the output agrees with it. It may start after a few
 *   of the expert's drafts too, in the same call: the output then follows the expert, and after that the base.
 */
import { DraftStatistics, type ListKind } from "./draft-statistics.ts";
import type { BaseLoad } from "./remote-load.ts";

/** Most drafts of a call without a stream. */
const DRAFTS_MAX = 12;
/** Most of the expert's drafts that a stream begins with: each is one more row in each of its steps. */
const STREAM_DRAFTS_MAX = 3;
/** Most tokens of a stream. */
const STREAM_TOKENS_MAX = 24;
const FORCED_DRAFTS = 4;
/** The share of a call's time that a call costs beside it: parsing on both sides, places in the server's queue. */
const CALL_PRICE = 0.3;
/** How often a stream is tried before its time is known, or again to measure it. */
const STREAM_TRIAL = 200;

/** Only this drafter, whatever it costs: for tests and measurements. */
export type ForcedDrafter = "none" | "expert" | "lookup" | "base" | "expert and base";

export interface Plan {
  /** Drafts of the expert. */
  readonly drafts: number;
  /** Tokens of the text; [] if the expert drafts. */
  readonly found: readonly number[];
  /** Tokens that are streamed after the context and after each draft; 0 for rows alone. */
  readonly streamed: number;
}

export interface Choices {
  /** Most rows of a call. */
  readonly rowsMax: number;
  readonly tokensLeft: number;
  /** What prompt lookup found. */
  readonly found: readonly number[];
  readonly hasExpert: boolean;
  readonly canStream: boolean;
  /** The kind of rows without a stream. */
  readonly lists: ListKind;
}

const NONE: Plan = { drafts: 0, found: [], streamed: 0 };

export class DraftPolicy {
  readonly #load: BaseLoad;
  readonly #forced: ForcedDrafter | null;
  readonly #drafts: DraftStatistics;
  /** Those of the sequence, and those of all. */
  readonly #all: readonly DraftStatistics[];
  #sinceTrial = STREAM_TRIAL;

  /** @param forced null to choose by what was measured */
  constructor(load: BaseLoad, forced: ForcedDrafter | null) {
    this.#load = load;
    this.#forced = forced;
    this.#drafts = new DraftStatistics(load.drafts);
    this.#all = [this.#drafts, load.drafts];
  }

  choose(choices: Choices): Plan {
    if (this.#forced) return forcedPlan(this.#forced, choices);
    if (this.#load.stepMs === null && isStreamable(choices) && ++this.#sinceTrial > STREAM_TRIAL) {
      this.#sinceTrial = 0;
      return { ...NONE, streamed: streamedMax(choices) };
    }
    let best = { plan: NONE, speed: this.#rowsSpeed(0, 0, 0, choices) };
    for (const rated of [...this.#rowPlans(choices), ...this.#streamPlans(choices)]) {
      if (rated.speed > best.speed) best = rated;
    }
    return best.plan;
  }

  *#rowPlans(choices: Choices): Iterable<{ plan: Plan; speed: number }> {
    const { found, hasExpert } = choices;
    for (let count = 1; count <= draftsMax(choices); count++) {
      if (hasExpert) {
        const speed = this.#rowsSpeed(
          count,
          this.#drafts.expert.value,
          this.#drafts.draftMs.value,
          choices,
        );
        yield { plan: { ...NONE, drafts: count }, speed };
      }
      if (count <= found.length) {
        const speed = this.#rowsSpeed(count, this.#drafts.lookup.value, 0, choices);
        yield { plan: { ...NONE, found: found.slice(0, count) }, speed };
      }
    }
  }

  *#streamPlans(choices: Choices): Iterable<{ plan: Plan; speed: number }> {
    if (!isStreamable(choices)) return;
    const streamed = streamedMax(choices);
    for (let drafts = 0; drafts <= streamDraftsMax(choices); drafts++) {
      yield {
        plan: { ...NONE, drafts, streamed },
        speed: this.#streamSpeed(drafts, streamed),
      };
    }
  }

  /** What each drafter would have given at a position; null if it is not known. */
  observe(expert: boolean | null, lookup: boolean | null, base: boolean): void {
    for (const drafts of this.#all) {
      drafts.base.observe(base ? 1 : 0);
      if (expert !== null) {
        drafts.expert.observe(expert ? 1 : 0);
        drafts.baseOnly.observe(base && !expert ? 1 : 0);
      }
      if (lookup !== null) drafts.lookup.observe(lookup ? 1 : 0);
    }
  }

  /** Whether the first row of a position was enough. */
  observeProof(lists: ListKind, isProven: boolean): void {
    for (const { asks } of this.#all) asks[lists].observe(isProven ? 0 : 1);
  }

  /** @param ms from the end of a draft to that of the next one, with what else the loop did meanwhile */
  recordDraft(ms: number): void {
    for (const { draftMs } of this.#all) draftMs.observe(ms);
  }

  /** Tokens for each millisecond of a call with drafts. The first wrong one ends it (arXiv 2211.17192). */
  #rowsSpeed(drafts: number, acceptance: number, draftMs: number, { lists }: Choices): number {
    const { fixedMs, rowMs } = this.#load.call;
    let tokens = 0;
    for (let i = 0; i <= drafts; i++) tokens += acceptance ** i;
    const callMs = fixedMs + this.#shared(rowMs) * (drafts + 1);
    // Lifted tokens follow from the pair's logits of each position, also of the last one.
    const liftMs = lists === "lifted" ? this.#drafts.draftMs.value : 0;
    return (
      tokens / (callMs * (1 + CALL_PRICE) + draftMs * drafts + liftMs + this.#asksMs(tokens, lists))
    );
  }

  /** Time of the calls that ask again about so many positions. */
  #asksMs(tokens: number, lists: ListKind): number {
    const { fixedMs, rowMs } = this.#load.call;
    return (
      tokens * this.#drafts.asks[lists].value * (fixedMs + this.#shared(rowMs)) * (1 + CALL_PRICE)
    );
  }

  /**
   * The same for a stream. With b and e the shares of right tokens of base and expert, and o of those that only the base has right,
   * a branch gives 1 / (1 - b) tokens, and one that begins with n drafts t(n) = 1 + e * t(n - 1) + o / (1 - b). Its steps are
   * counted alike: the rows after drafts come in the first one.
   */
  #streamSpeed(drafts: number, streamed: number): number {
    const { fixedMs, rowMs } = this.#load.call;
    const { stepMs } = this.#load;
    if (stepMs === null) return 0;
    const [base, expert, only] = [
      this.#drafts.base,
      this.#drafts.expert,
      this.#drafts.baseOnly,
    ].map(({ value }) => value) as [number, number, number];
    const run = (1 - base ** streamed) / Math.max(1e-3, 1 - base);
    let [tokens, steps] = [run, run];
    for (let i = 0; i < drafts; i++) {
      tokens = 1 + expert * tokens + only * run;
      steps = expert * steps + only * (1 + run) + Math.max(0, 1 - expert - only);
    }
    const rowsMs = this.#shared(rowMs) * (drafts + 1);
    const callMs = fixedMs + rowsMs;
    // Until the server sees that the stream is left, it goes on; this costs the calls that follow.
    const waitMs = Math.max(0, fixedMs - stepMs);
    const wasted = Math.min(Math.max(0, streamed - steps), 1 + waitMs / (stepMs + rowsMs));
    const ms =
      callMs * (1 + CALL_PRICE) +
      (steps - 1) * (stepMs + rowsMs) +
      wasted * rowsMs +
      this.#asksMs(tokens, "plain") +
      this.#drafts.draftMs.value * drafts;
    return tokens / ms;
  }

  /** All sequences draft alike, so each row of this one stands for one of each. */
  #shared(rowMs: number): number {
    return rowMs * Math.max(1, this.#load.sequences);
  }
}

const draftsMax = ({ rowsMax, tokensLeft }: Choices) =>
  Math.max(0, Math.min(DRAFTS_MAX, rowsMax - 1, tokensLeft - 1));
const streamDraftsMax = (choices: Choices) =>
  choices.hasExpert ? Math.min(STREAM_DRAFTS_MAX, draftsMax(choices)) : 0;
const streamedMax = ({ tokensLeft }: Choices) => Math.min(STREAM_TOKENS_MAX, tokensLeft);
const isStreamable = ({ canStream, tokensLeft }: Choices) => canStream && tokensLeft > 1;

function forcedPlan(forced: ForcedDrafter, choices: Choices): Plan {
  const drafts = Math.min(FORCED_DRAFTS, draftsMax(choices));
  const streamed = isStreamable(choices) ? streamedMax(choices) : 0;
  const plans: Readonly<Record<ForcedDrafter, Plan>> = {
    none: NONE,
    expert: { ...NONE, drafts: choices.hasExpert ? drafts : 0 },
    lookup: { ...NONE, found: choices.found.slice(0, drafts) },
    base: { ...NONE, streamed },
    "expert and base": { ...NONE, drafts: streamDraftsMax(choices), streamed },
  };
  return plans[forced];
}
