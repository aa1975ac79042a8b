/**
 * Chooses how the next tokens of a sequence over a remote base are drafted, from what was measured: how often each drafter is
 * right, and what calls cost at the present load. Drafts decide how many calls are made, never the tokens.
 *
 * - `expert`: the expert's own tokens, with the noise of their positions. One call has the rows after each of them.
 * - `lookup`: what followed the same three tokens earlier in the text. Costs no run of the expert.
 * - `base`: the base's own continuation, streamed with its rows, for as long as the output agrees with it.
 *
 * A stream may begin with drafts in two ways. As its lead: the server goes along them instead of its own tokens, and computes no more
 * than for a client of its own. Or as branches: the base is followed after none, one or more of the expert's drafts at once, so that the
 * output may follow the expert, and after that the base; each branch is one more row in each step.
 */
import type { DraftMargins } from "./draft-margins.ts";
import { DraftStatistics, type ListKind } from "./draft-statistics.ts";
import type { BaseLoad } from "./remote-load.ts";

/** Most drafts of a call without a stream. */
const DRAFTS_MAX = 12;
/** Most branches of a stream, beside that without drafts: each is one more row in each of its steps. */
const BRANCHES_MAX = 3;
/** Most tokens of a stream. */
const STREAM_TOKENS_MAX = 24;
/** How many of the base's own tokens a stream may have after its lead. */
const TAILS = [1, 2, 4, 8, STREAM_TOKENS_MAX];
const FORCED_DRAFTS = 4;
/** An output is expected to be so long at least, and to go on for as long as it is. */
const TOKENS_EXPECTED = 8;
/** The share of a call's time that a call costs beside it: parsing on both sides, places in the server's queue. */
const CALL_PRICE = 0.3;

/** Only this drafter, whatever it costs: for tests and measurements. */
export type ForcedDrafter = "none" | "expert" | "lookup" | "base" | "expert and base" | "lead";

export interface Plan {
  /** Drafts of the expert. */
  readonly drafts: number;
  /** Tokens of the text; [] if the expert drafts. */
  readonly found: readonly number[];
  /** Tokens of each continuation, those of a lead included; 0 for rows alone. */
  readonly streamed: number;
  /** Whether the drafts are the lead of the stream. */
  readonly isLead: boolean;
}

export interface Choices {
  /** Most rows of a call. */
  readonly rowsMax: number;
  readonly tokensLeft: number;
  /** The tokens that prompt lookup found. */
  readonly found: readonly number[];
  readonly hasExpert: boolean;
  /** Drafts that the expert has made already. */
  readonly ready: number;
  readonly canStream: boolean;
  readonly canLead: boolean;
  /** The kind of rows without a stream. */
  readonly lists: ListKind;
  /** Prompt and output, where a prompt has a cache of its own that may have to be filled; otherwise 0. */
  readonly contextTokens: number;
  /** Most prompts of a call so far: so many have such a cache. */
  readonly promptsFilled: number;
  /** Tokens of the output so far. */
  readonly tokensTaken: number;
}

interface RatedPlan {
  readonly plan: Plan;
  /** Tokens for each millisecond. */
  readonly speed: number;
}

/** The expert's draft for a position that has its token. */
export interface ObservedDraft {
  readonly isRight: boolean;
  /** How far it has won (draft-margins.ts). */
  readonly margin: number;
}

export const NO_DRAFTS: Plan = { drafts: 0, found: [], streamed: 0, isLead: false };

export class DraftPolicy {
  readonly #load: BaseLoad;
  readonly #forced: ForcedDrafter | null;
  readonly #drafts: DraftStatistics;
  /** Those of the sequence, and those of all. */
  readonly #all: readonly DraftStatistics[];

  /** @param forced null to choose by what was measured */
  constructor(load: BaseLoad, forced: ForcedDrafter | null) {
    this.#load = load;
    this.#forced = forced;
    this.#drafts = new DraftStatistics(load.drafts);
    this.#all = [this.#drafts, load.drafts];
  }

  choose(choices: Choices): Plan {
    if (this.#forced) return forcedPlan(this.#forced, choices);
    const streams = [...this.#branchPlans(choices), ...this.#leadPlans(choices)];
    // Rows tell nothing about the time of a stream's steps.
    if (streams.length > 0 && !this.#load.knowsSteps) return fastest(streams).plan;
    return fastest([...this.#rowPlans(choices), ...streams]).plan;
  }

  *#rowPlans(choices: Choices): Iterable<RatedPlan> {
    const { found, hasExpert } = choices;
    const { draftMs, expert, lookup } = this.#drafts;
    yield { plan: NO_DRAFTS, speed: this.#rowsSpeed(0, 0, 0, choices) };
    for (let count = 1; count <= draftsMax(choices); count++) {
      if (hasExpert) {
        const speed = this.#rowsSpeed(count, expert.value, draftMs.value, choices);
        yield { plan: { ...NO_DRAFTS, drafts: count }, speed };
      }
      if (count <= found.length) {
        const speed = this.#rowsSpeed(count, lookup.value, 0, choices);
        yield { plan: { ...NO_DRAFTS, found: found.slice(0, count) }, speed };
      }
    }
  }

  *#branchPlans(choices: Choices): Iterable<RatedPlan> {
    if (!isStreamable(choices)) return;
    const streamed = streamedMax(choices);
    for (let drafts = 1; drafts <= branchesMax(choices); drafts++) {
      const speed = this.#branchSpeed(drafts, streamed, choices);
      yield { plan: { ...NO_DRAFTS, drafts, streamed }, speed };
    }
  }

  *#leadPlans(choices: Choices): Iterable<RatedPlan> {
    if (!isStreamable(choices)) return;
    const { found, hasExpert, ready } = choices;
    const { draftMs, margins, lookup } = this.#drafts;
    const most = streamedMax(choices);
    const expert = margins.sure(this.#leastRight);
    const text = { share: 1, right: lookup.value };
    for (let lead = 0; lead <= leadMax(choices); lead++) {
      for (const streamed of tailsOf(lead, most)) {
        if (hasExpert || lead === 0) {
          const drafted = lead === 0 ? 0 : powersOf(expert.share, lead - 1);
          const ms = draftMs.value * Math.max(0, drafted - ready);
          const speed = this.#leadSpeed(lead, streamed, expert, ms);
          yield { plan: { ...NO_DRAFTS, drafts: lead, streamed, isLead: lead > 0 }, speed };
        }
        if (lead > 0 && lead <= found.length) {
          const speed = this.#leadSpeed(lead, streamed, text, 0);
          const plan = { ...NO_DRAFTS, found: found.slice(0, lead), streamed, isLead: true };
          yield { plan, speed };
        }
      }
    }
  }

  /** Whether a draft with this margin belongs into a lead, or ends it. */
  isSure(margin: number): boolean {
    return this.#forced !== null || this.#drafts.margins.rightOf(margin) >= this.#leastRight;
  }

  /**
   * Drafts that are right less often end a lead. With the share p of right ones, a wrong draft costs the time w until the server leaves it,
   * and the call c that every end of a lead costs: (1 - p) * (w + c), where ending the lead costs c.
   */
  get #leastRight(): number {
    const { fixedMs, tokenMs, leftMs, stepMs } = this.#load;
    const callMs = Math.max(0, fixedMs - stepMs) + CALL_PRICE * (fixedMs + this.#shared(tokenMs));
    return leftMs > 0 ? leftMs / (leftMs + callMs) : 0;
  }

  /** The tokens that each drafter would have given at a position; null if it is not known. */
  observe(expert: ObservedDraft | null, lookup: boolean | null, base: boolean): void {
    for (const drafts of this.#all) {
      drafts.base.observe(base ? 1 : 0);
      if (expert !== null) {
        drafts.expert.observe(expert.isRight ? 1 : 0);
        drafts.margins.observe(expert.margin, expert.isRight);
        drafts.baseOnly.observe(base && !expert.isRight ? 1 : 0);
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

  /** The speed of a call with drafts. The first wrong one ends it (arXiv 2211.17192). */
  #rowsSpeed(drafts: number, acceptance: number, draftMs: number, choices: Choices): number {
    const { lists } = choices;
    const { fixedMs, tokenMs } = this.#load;
    const tokens = powersOf(acceptance, drafts);
    const callMs = fixedMs + this.#shared(tokenMs) * this.#load.tokensFor(drafts);
    // Lifted tokens follow from the pair's logits of each position, also of the last one.
    const liftMs = lists === "lifted" ? this.#drafts.draftMs.value : 0;
    const ms =
      callMs * (1 + CALL_PRICE) +
      draftMs * drafts +
      liftMs +
      this.#fillMs(drafts, tokens, choices) +
      this.#asksMs(tokens, lists);
    return tokens / ms;
  }

  /** Time to fill the caches of prompts that have none, as the share of one of the calls that it is for. */
  #fillMs(drafts: number, tokensOfCall: number, choices: Choices): number {
    const { contextTokens, promptsFilled, tokensLeft, tokensTaken } = choices;
    const prompts = Math.max(0, drafts + 1 - promptsFilled);
    const fillMs = prompts * contextTokens * this.#shared(this.#load.fillTokenMs);
    const tokensToCome = Math.min(tokensLeft, Math.max(TOKENS_EXPECTED, tokensTaken));
    return fillMs / Math.max(1, tokensToCome / tokensOfCall);
  }

  /** Time of the calls that ask again about so many positions. */
  #asksMs(tokens: number, lists: ListKind): number {
    const { fixedMs, tokenMs } = this.#load;
    return (
      tokens * this.#drafts.asks[lists].value * (fixedMs + this.#shared(tokenMs)) * (1 + CALL_PRICE)
    );
  }

  /**
   * The speed of a stream with a lead of n drafts, and t of the base's own tokens after it. Each draft is sure with the share s, and right
   * then with the share r; the base's tokens are right with the share b. With a = s * r it gives 1 + a + ... + a^n tokens, and
   * a^n * (b + ... + b^(t - 1)) more, one in each step. The lead ends before a draft that is not sure; after a wrong one it is left.
   */
  #leadSpeed(
    lead: number,
    streamed: number,
    { share, right }: ReturnType<DraftMargins["sure"]>,
    draftMs: number,
  ): number {
    const base = this.#drafts.base.value;
    const tail = streamed - lead;
    const acceptance = share * right;
    const reached = acceptance ** lead;
    const tokens = powersOf(acceptance, lead) + reached * (powersOf(base, tail - 1) - 1);
    const isWrong = lead === 0 ? 0 : share * (1 - right) * powersOf(acceptance, lead - 1);
    const isLeft = isWrong + reached * (1 - base ** (tail - 1));
    return this.#streamSpeed({ tokens, steps: tokens, streamed, branches: 0, isLeft, draftMs });
  }

  /**
   * The speed of a stream with n branches beside that without drafts. With b and e the shares of right tokens of base and expert, and o
   * of those that only the base has right, a branch gives 1 / (1 - b) tokens, and one that begins with n drafts
   * t(n) = 1 + e * t(n - 1) + o / (1 - b). Its steps are counted alike: the rows after drafts come in the first one.
   */
  #branchSpeed(drafts: number, streamed: number, choices: Choices): number {
    const [base, expert, only] = [
      this.#drafts.base,
      this.#drafts.expert,
      this.#drafts.baseOnly,
    ].map(({ value }) => value) as [number, number, number];
    const run = powersOf(base, streamed - 1);
    let [tokens, steps] = [run, run];
    for (let i = 0; i < drafts; i++) {
      tokens = 1 + expert * tokens + only * run;
      steps = expert * steps + only * (1 + run) + Math.max(0, 1 - expert - only);
    }
    const draftMs = this.#drafts.draftMs.value * drafts + this.#fillMs(drafts, tokens, choices);
    return this.#streamSpeed({ tokens, steps, streamed, branches: drafts, isLeft: 1, draftMs });
  }

  #streamSpeed({ tokens, steps, streamed, branches, isLeft, draftMs }: StreamEstimate): number {
    const { fixedMs, tokenMs, stepMs, leftMs } = this.#load;
    const firstMs = fixedMs + this.#shared(tokenMs) * this.#load.tokensFor(branches);
    const rowsMs = this.#shared(tokenMs) * (branches + 1);
    // Until the server sees that a stream was left, it goes on: the calls that follow pay for these steps, and the next one waits.
    const networkMs = Math.max(0, fixedMs - stepMs);
    const late = 1 + networkMs / Math.max(1, stepMs + rowsMs);
    const wasted = Math.min(Math.max(0, streamed - steps), isLeft * late);
    const ms =
      firstMs * (1 + CALL_PRICE) +
      (steps - 1) * (stepMs + rowsMs) +
      wasted * rowsMs +
      isLeft * leftMs +
      this.#asksMs(tokens, "plain") +
      draftMs;
    return tokens / ms;
  }

  /** All sequences draft alike, so each token of this one stands for one of each. */
  #shared(tokenMs: number): number {
    return tokenMs * Math.max(1, this.#load.sequences);
  }
}

interface StreamEstimate {
  /** Tokens of the output. */
  readonly tokens: number;
  /** Steps of the server that give them. */
  readonly steps: number;
  /** Most steps. */
  readonly streamed: number;
  /** Branches that begin with drafts. */
  readonly branches: number;
  /** The share of such streams that the output leaves before their end. */
  readonly isLeft: number;
  /** Time until the drafts are made, and the caches filled. */
  readonly draftMs: number;
}

const fastest = (plans: readonly RatedPlan[]) =>
  plans.reduce((best, one) => (one.speed > best.speed ? one : best));

/** 1 + x + ... + x^n */
function powersOf(x: number, n: number): number {
  return x > 0.999 ? n + 1 : (1 - x ** (n + 1)) / (1 - x);
}

const draftsMax = ({ rowsMax, tokensLeft }: Choices) =>
  Math.max(0, Math.min(DRAFTS_MAX, rowsMax - 1, tokensLeft - 1));
const branchesMax = (choices: Choices) =>
  choices.hasExpert ? Math.min(BRANCHES_MAX, draftsMax(choices)) : 0;
const streamedMax = ({ tokensLeft }: Choices) => Math.min(STREAM_TOKENS_MAX, tokensLeft);
const isStreamable = ({ canStream, tokensLeft }: Choices) => canStream && tokensLeft > 1;
const leadMax = (choices: Choices) => (choices.canLead ? streamedMax(choices) - 1 : 0);

/** Lengths of a stream with such a lead, two tokens at least: one is a call for a row. */
const tailsOf = (lead: number, most: number) =>
  new Set(TAILS.map((tail) => Math.min(most, lead + tail)).filter((streamed) => streamed > 1));

function forcedPlan(forced: ForcedDrafter, choices: Choices): Plan {
  const drafts = Math.min(FORCED_DRAFTS, draftsMax(choices));
  const streamed = isStreamable(choices) ? streamedMax(choices) : 0;
  const lead = choices.hasExpert && streamed > 0 ? Math.min(FORCED_DRAFTS, leadMax(choices)) : 0;
  const plans: Readonly<Record<ForcedDrafter, Plan>> = {
    none: NO_DRAFTS,
    expert: { ...NO_DRAFTS, drafts: choices.hasExpert ? drafts : 0 },
    lookup: { ...NO_DRAFTS, found: choices.found.slice(0, drafts) },
    base: { ...NO_DRAFTS, streamed },
    "expert and base": { ...NO_DRAFTS, drafts: branchesMax(choices), streamed },
    lead: { ...NO_DRAFTS, drafts: lead, streamed, isLead: lead > 0 },
  };
  return plans[forced];
}
