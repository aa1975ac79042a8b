/**
 * The drafts of one sequence over a remote base: which ones the next call has, and what was right. The expert's drafts are made while
 * the pair runs ahead of the output, also beside a stream: then they are there when its lead was right to the end.
 */
import type { DraftSource } from "../../engine-client/messages.ts";
import type { BaseRow } from "../remote/base-row.ts";
import type { RemoteBase } from "../remote/remote-base.ts";
import { MARGIN_MAX } from "./draft-margins.ts";
import type { ListKind } from "./draft-statistics.ts";
import type { RowCalls } from "./remote-calls.ts";
import type { BaseLoad } from "./remote-load.ts";
import { PairPath } from "./remote-path.ts";
import {
  DraftPolicy,
  NO_DRAFTS,
  type ForcedDrafter,
  type ObservedDraft,
  type Plan,
} from "./remote-policy.ts";
import { propose, type Proposal } from "./remote-proposal.ts";
import type { Sequence } from "./sequence.ts";

/** Most drafts that prompt lookup finds. */
const FOUND_MAX = 12;
/** Above this size of vocabulary, drafts that are not used are sampled at one position of four only: it takes as long as a draw. */
const OBSERVED_VOCABULARY = 32_768;

type Draft = Pick<Proposal, "token" | "margin">;

/** The content of the next call. */
export interface DraftedCall {
  readonly drafts: readonly number[];
  readonly lifts: ReadonlyMap<number, number>;
  readonly list: ListKind;
  /** Tokens of each continuation; 0 for rows alone. */
  readonly streamed: number;
  /** Whether the drafts are the lead of the stream. */
  readonly isLead: boolean;
}

export interface RemoteDraftsOptions {
  readonly sequence: Sequence;
  readonly base: RemoteBase;
  readonly load: BaseLoad;
  readonly calls: RowCalls;
  /** Null to choose by what was measured. */
  readonly drafter: ForcedDrafter | null;
}

export class RemoteDrafts {
  readonly path: PairPath;
  readonly policy: DraftPolicy;
  readonly #options: RemoteDraftsOptions;
  /** The content of the next call; null before it is decided. */
  #plan: Plan | null = null;
  #source: DraftSource = "expert";
  /** Of the positions of the plan. */
  readonly #lifts = new Map<number, number>();
  /** When the first draft of the plan was begun, and how many the pair has made for it. */
  #started = { ms: 0, runs: 0 };
  /** Drafts of the latest call that the output has not reached. */
  #called = 0;
  /** Most prompts of a call so far. */
  #promptsFilled = 1;
  /** False once the expert has no further draft for the positions after the call. */
  #canGrow = true;

  constructor(options: RemoteDraftsOptions) {
    this.#options = options;
    this.path = new PairPath(options.sequence.modelStates.slice(1));
    this.policy = new DraftPolicy(options.load, options.drafter);
  }

  /** Forgets the drafts, because the pair's caches are empty again. */
  restart(): void {
    this.path.restart();
    this.#plan = null;
    this.#called = 0;
  }

  /** The content of the next call. Null if the pair must run first, for one more draft. */
  next(): DraftedCall | null {
    if (!this.#plan) this.#begin();
    const plan = this.#plan!;
    const liftMax = plan.streamed > 0 ? 0 : this.#liftMax;
    if (this.#growPath(plan, liftMax)) return null;
    const drafts = this.path.tokens.slice(0, this.#sureDrafts(plan));
    if (plan.isLead && drafts.length === 0) {
      this.#planRow();
      return this.next();
    }
    const { ms, runs } = this.#started;
    if (runs > 0) this.policy.recordDraft((performance.now() - ms) / runs);
    this.#plan = null;
    this.#called = drafts.length;
    const list = liftMax > 0 ? "lifted" : "plain";
    const { isLead } = plan;
    if (!isLead) this.#promptsFilled = Math.max(this.#promptsFilled, drafts.length + 1);
    // After a lead that the output's end or a doubtful draft cuts short, one row is wanted.
    const isCut = isLead && drafts.length < plan.drafts;
    const streamed = isCut ? drafts.length + 1 : plan.streamed;
    return { drafts, lifts: new Map(this.#lifts), list, streamed, isLead };
  }

  /** While a call is under way: adds a draft beyond those of the call, up to as many as the load of the pair allows. */
  growAhead(): void {
    const { path } = this;
    const { sequence, calls, load } = this.#options;
    const { draftModel, isForced } = sequence;
    if (!draftModel || isForced || !path.last || !this.#canGrow || !calls.canLead) return;
    if (path.tokens.length >= this.#called + load.aheadMax) return;
    const draft = this.#nextDraft(path.last, 0);
    this.#canGrow = draft !== null;
    if (draft) path.addDraft(draft.token, draft.margin);
  }

  /** The output has this token. */
  advance(token: number, isEnd: boolean): void {
    const isDraft = this.path.tokens[0] === token;
    this.#called = isDraft ? Math.max(0, this.#called - 1) : 0;
    if (!isDraft) this.#canGrow = true;
    if (isEnd) this.path.leave();
    else this.path.advance(token);
  }

  /** Which drafters have the token of a position, or would have had it. Returns whether it was drafted. */
  observe(
    { likeliest }: BaseRow,
    baseToken: number | null,
    pairLogits: readonly Float32Array[],
    token: number,
  ): boolean {
    const { drafts, lookup } = this.#options.sequence;
    const draft = this.#called > 0 ? this.path.tokens[0] : undefined;
    const source = draft !== undefined ? this.#source : baseToken !== null ? "base" : null;
    const isAccepted = (draft ?? baseToken) === token;
    if (source) {
      drafts[source].drafted++;
      if (isAccepted) drafts[source].accepted++;
    }
    const [found] = lookup.find(1);
    this.policy.observe(
      this.#expertDraft(pairLogits, token),
      found === undefined ? null : found === token,
      (baseToken ?? likeliest) === token,
    );
    return isAccepted;
  }

  /** The expert's draft for a position, made or only looked at; null if it is not known. */
  #expertDraft(pairLogits: readonly Float32Array[], token: number): ObservedDraft | null {
    const { sequence } = this.#options;
    const { draftModel, tokens, request } = sequence;
    const [[next], [margin]] = [this.path.tokens, this.path.margins];
    const isExpert = this.#called === 0 || this.#source === "expert";
    if (next !== undefined && isExpert) return { isRight: next === token, margin: margin! };
    const isSampled = request.models.vocabSize <= OBSERVED_VOCABULARY || tokens.length % 4 === 0;
    if (!draftModel || !isSampled) return null;
    const proposal = propose(sequence, [], pairLogits, 0);
    return proposal && { isRight: proposal.token === token, margin: proposal.margin };
  }

  #begin(): void {
    const plan = this.#nextPlan();
    const isFound = plan.found.length > 0;
    this.#plan = plan;
    this.#source = isFound ? "lookup" : "expert";
    this.#canGrow = true;
    // Rows need the lifted tokens of each draft, which follow from the pair's logits while it drafts.
    if (!plan.isLead || isFound) this.path.cut(0);
    this.#started = { ms: performance.now(), runs: 0 };
    this.#lifts.clear();
  }

  /** The row of the next position, and no drafts. */
  #planRow(): void {
    this.#plan = NO_DRAFTS;
    this.path.cut(0);
    this.#lifts.clear();
  }

  /** How many drafts of the plan the call has: a lead ends before the first draft that is seldom right. */
  #sureDrafts({ drafts, found, isLead }: Plan): number {
    if (!isLead || found.length > 0) return drafts + found.length;
    const unsure = this.path.margins.findIndex((margin) => !this.policy.isSure(margin));
    return unsure === -1 ? drafts : Math.min(drafts, unsure);
  }

  /** Adds a draft, and the lifted tokens of its position. Returns whether the pair must run first. */
  #growPath(plan: Plan, liftMax: number): boolean {
    const { path } = this;
    const { found } = plan;
    // No further drafts after a doubtful one.
    const isCut = this.#sureDrafts(plan) < Math.min(path.tokens.length, plan.drafts);
    const drafts = isCut ? 0 : plan.drafts;
    if (path.tokens.length < drafts || liftMax > 0) {
      if (!path.last) return true;
      this.#started.runs++;
      const draft = this.#nextDraft(path.last, liftMax);
      if (draft !== null && path.tokens.length < drafts) {
        path.addDraft(draft.token, draft.margin);
        if (path.tokens.length < drafts || liftMax > 0) return true;
      }
    }
    if (path.tokens.length === 0) for (const token of found) path.addDraft(token, MARGIN_MAX);
    return false;
  }

  /**
   * Most lifted tokens of a position. None where more than ratios of probabilities is needed: with guards that depend on the base's
   * distribution, and with the repetition penalty, which multiplies.
   */
  get #liftMax(): number {
    const { sequence, base, calls } = this.#options;
    const { isForced, draftModel, request } = sequence;
    const { baseNucleus = 1, klBudget } = request.guards ?? {};
    const needsMore = baseNucleus < 1 || klBudget !== undefined || request.sampler.isMultiplying;
    if (isForced || !draftModel || needsMore) return 0;
    return calls.canLift ? Math.floor(base.liftMax / base.rowsMax) : 0;
  }

  #nextPlan(): Plan {
    const { sequence, base, load, calls } = this.#options;
    if (sequence.modelStates.slice(1).some(({ decoder }) => decoder.rewind === null))
      return NO_DRAFTS;
    const rowsMax = base.rowsFor(load.sequences);
    if (sequence.isForced) {
      const left = sequence.nextForcedTokens(rowsMax).length;
      const drafts = Math.min(rowsMax - 1, sequence.isScoringPrompt ? left : left - 1);
      return { ...NO_DRAFTS, drafts };
    }
    return this.policy.choose({
      rowsMax,
      tokensLeft: sequence.request.output.tokensLeft,
      found: sequence.lookup.find(FOUND_MAX),
      hasExpert: sequence.draftModel !== null,
      ready: this.path.tokens.length,
      canStream: calls.canStream,
      canLead: calls.canLead,
      lists: this.#liftMax > 0 ? "lifted" : "plain",
      contextTokens: base.hasSlots ? sequence.lookup.length : 0,
      promptsFilled: this.#promptsFilled,
      tokensTaken: sequence.tokens.length,
    });
  }

  /** A token for the end of the path: the next forced one, or one that the pair proposes. Null if there is none, or if it ends the output. */
  #nextDraft(pairLogits: readonly Float32Array[], liftMax: number): Draft | null {
    const { sequence } = this.#options;
    const { tokens } = this.path;
    if (sequence.isForced) {
      const token = sequence.nextForcedTokens(tokens.length + 1)[tokens.length];
      return token === undefined ? null : { token, margin: MARGIN_MAX };
    }
    const proposal = propose(sequence, tokens, pairLogits, liftMax);
    for (const [id, nats] of proposal?.lifts ?? []) {
      this.#lifts.set(id, Math.max(nats, this.#lifts.get(id) ?? 0));
    }
    if (!proposal || sequence.request.output.endsWith(proposal.token)) return null;
    return proposal;
  }
}
