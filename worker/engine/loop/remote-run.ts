/**
 * A sequence whose base is remote. Its calls run beside the decode loop: while one is under way, the loop decodes other
 * sequences, and this one's pair. A step never waits for a call; it uses the rows that have arrived.
 *
 * A call asks for the rows of several positions: along drafts (remote-policy.ts has their kinds), or along the base's own
 * continuation. Then each position draws its token from its own row, as without drafts, and rows that the output does not reach are
 * dropped. So drafts change the count of calls, never the tokens.
 */
import { AppError } from "../../../shared/api/errors.ts";
import { emptyRemoteCounts, type DraftSource } from "../../engine-client/messages.ts";
import { promptLookup } from "../decode/draft.ts";
import type { RowsQuery } from "../remote/api.ts";
import type { BaseRow } from "../remote/base-row.ts";
import { tenantSalt, type RemoteBase } from "../remote/remote-base.ts";
import type { BaseLoad } from "./remote-load.ts";
import { ListLength } from "./remote-list-length.ts";
import { PairPath, type ModelInput } from "./remote-path.ts";
import type { ListKind } from "./draft-statistics.ts";
import { DraftPolicy, type ForcedDrafter, type Plan } from "./remote-policy.ts";
import { RowCalls } from "./remote-calls.ts";
import { propose } from "./remote-proposal.ts";
import { certifyDecision, certifyForced, type RowCertificate } from "./remote-certificate.ts";
import type { ModelState, Sequence, Step } from "./sequence.ts";

/** A longer list is this many times as long, and after each other question that has not helped as many times more. */
const DEEPER = 4;
const DEEPER_POWER_MAX = 3;
/** How often the base is asked again about one position. Then its token counts as not proven. */
const ASKS_MAX = 6;
/** Most drafts that prompt lookup finds. */
const FOUND_MAX = 12;
/** Above this size of vocabulary, drafts that are not used are sampled at one position of four only: it takes as long as a draw. */
const OBSERVED_VOCABULARY = 32_768;

export class RemoteRun {
  readonly counts = emptyRemoteCounts();
  readonly #sequence: Sequence;
  readonly #base: RemoteBase;
  readonly #load: BaseLoad;
  readonly #policy: DraftPolicy;
  readonly #listLengths: Readonly<Record<ListKind, ListLength>>;
  readonly #salt: string;
  readonly #filled: Float32Array;
  readonly #upper: Float32Array;
  readonly #path: PairPath;
  /** What the next call shall have; null before it is decided. */
  #plan: Plan | null = null;
  #draftSource: DraftSource = "expert";
  /** Of the positions of the plan. */
  readonly #lifts = new Map<number, number>();
  /** The kind of the lists that have come. */
  #list: ListKind = "plain";
  #draftStartedMs = 0;
  readonly #calls: RowCalls;
  /** How often the base was asked again about this position. */
  #asks = 0;

  /**
   * @param drafter null to choose by what was measured
   * @param onArrival called when something has arrived, so that the loop takes another step
   */
  constructor(
    sequence: Sequence,
    base: RemoteBase,
    load: BaseLoad,
    drafter: ForcedDrafter | null,
    onArrival: () => void,
  ) {
    const { vocabSize } = sequence.request.models;
    this.#sequence = sequence;
    this.#base = base;
    this.#load = load;
    this.#policy = new DraftPolicy(load, drafter);
    this.#listLengths = { lifted: new ListLength(base.top), plain: new ListLength(base.top) };
    this.#salt = tenantSalt(sequence.request.tenant);
    this.#filled = new Float32Array(vocabSize);
    this.#upper = new Float32Array(vocabSize);
    this.#path = new PairPath(this.#pair);
    this.#calls = new RowCalls({ base, load, counts: this.counts, onArrival });
  }

  /** Whether a step can do something without waiting for a call. */
  get isReady(): boolean {
    const { error, isWaiting, tree } = this.#calls;
    // With drafts ahead of the output, the first logits are known and the last ones may not be.
    if (error || this.#path.last === undefined) return true;
    return !isWaiting && (!tree || tree.row !== null || !tree.isUseful);
  }

  /** Tokens that the pair must run next; [] if its logits are known. */
  pairInputs(): ModelInput[] {
    return this.#calls.error ? [] : this.#path.inputs;
  }

  /**
   * Takes the tokens that can be drawn now, then drafts or calls for more.
   * @param logitsOf logits after the inputs of `pairInputs`
   */
  advance(logitsOf: (model: ModelState) => Float32Array): Step[] {
    const calls = this.#calls;
    if (calls.error) return [{ sequence: this.#sequence, error: calls.error }];
    if (this.#path.last === undefined) this.#path.addLogits(this.#pair.map(logitsOf));
    const steps: Step[] = [];
    try {
      while (!calls.isWaiting && calls.tree?.row && this.#path.first) {
        const step = this.#takeToken(calls.tree.row, this.#path.first);
        if (!step) break;
        steps.push(step);
        if (step.finish) return steps;
      }
      if (calls.tree && !calls.tree.isUseful) calls.leave();
      if (!calls.isWaiting && !calls.tree) this.#extend();
    } catch (error) {
      steps.push({ sequence: this.#sequence, error: asError(error) });
    }
    return steps;
  }

  /** Forgets the drafts, because the pair's caches are empty again. The rows that have arrived stay right. */
  restart(): void {
    this.#path.restart();
    this.#plan = null;
  }

  /** Aborts its calls. */
  close(): void {
    this.#calls.close();
  }

  /** The models beside the base. */
  get #pair(): readonly ModelState[] {
    return this.#sequence.modelStates.slice(1);
  }

  /** Draws the next token from its row. Null if more must be asked first. */
  #takeToken(row: BaseRow, pairLogits: readonly Float32Array[]) {
    const sequence = this.#sequence;
    const { isForced } = sequence;
    row.fill(this.#filled);
    let decision = sequence.decide([this.#filled, ...pairLogits]);
    let certificate = isForced
      ? certifyForced(decision, row, this.#upper)
      : certifyDecision(sequence, decision, row, this.#upper);
    if (this.#asks === 0 && !isForced) {
      this.#listLengths[this.#list].observe(certificate.certified);
      this.#policy.observeProof(this.#list, certificate.certified);
    }
    if (!certificate.certified && this.#askMore(row, certificate)) return null;
    if (!isForced && this.#fallsBack(certificate)) {
      decision = sequence.decideWithBase(decision);
      certificate = certifyDecision(sequence, decision, row, this.#upper, true);
      this.counts.fellBack++;
    }
    this.#count(row, certificate);
    const { token } = decision;
    const isDrafted = !isForced && this.#observe(row, pairLogits, token);
    const step = sequence.take(decision);
    this.#asks = 0;
    this.#calls.tree!.advance(token);
    if (step.finish) this.#path.leave();
    else this.#path.advance(token);
    if (!step.analysis?.trace) return step;
    return { ...step, analysis: { ...step.analysis, isDrafted, baseError: certificate.errorMax } };
  }

  /** Which drafters have the token of a position, or would have had it. Returns whether it was drafted. */
  #observe(row: BaseRow, pairLogits: readonly Float32Array[], token: number): boolean {
    const { draftModel, drafts, tokens, request } = this.#sequence;
    const draft = this.#path.tokens[0];
    const isExpert = draft !== undefined && this.#draftSource === "expert";
    const { baseToken } = this.#calls.tree!;
    const source = draft !== undefined ? this.#draftSource : baseToken !== null ? "base" : null;
    const isAccepted = (draft ?? baseToken) === token;
    if (source) {
      drafts[source].drafted++;
      if (isAccepted) drafts[source].accepted++;
    }
    let expert = isExpert ? draft === token : null;
    const isSampled = request.models.vocabSize <= OBSERVED_VOCABULARY || tokens.length % 4 === 0;
    if (!isExpert && draftModel && isSampled) {
      expert = propose(this.#sequence, [], pairLogits, 0)?.token === token;
    }
    const [found] = promptLookup(this.#context, 1);
    this.#policy.observe(
      expert,
      found === undefined ? null : found === token,
      (baseToken ?? row.likeliest) === token,
    );
    return isAccepted;
  }

  /** Adds a draft to the path. Calls for rows when it is long enough. */
  #extend(): void {
    if (!this.#plan) {
      this.#plan = this.#nextPlan();
      this.#draftSource = this.#plan.found.length > 0 ? "lookup" : "expert";
      this.#draftStartedMs = performance.now();
      this.#lifts.clear();
    }
    const liftMax = this.#plan.streamed > 0 ? 0 : this.#liftMax;
    if (this.#growPath(this.#plan, liftMax)) return;
    const { drafts } = this.#plan;
    const runs = drafts + (liftMax > 0 ? 1 : 0);
    if (runs > 0) this.#policy.recordDraft((performance.now() - this.#draftStartedMs) / runs);
    this.#list = liftMax > 0 ? "lifted" : "plain";
    this.#call(this.#plan);
    this.#plan = null;
  }

  /** Adds a draft, and the lifted tokens of its position. Returns whether the pair must run first. */
  #growPath({ drafts, found }: Plan, liftMax: number): boolean {
    const path = this.#path;
    if (path.tokens.length < drafts || liftMax > 0) {
      if (!path.last) return true;
      const draft = this.#nextDraft(path.last, liftMax);
      if (draft !== null && path.tokens.length < drafts) {
        path.addDraft(draft);
        if (path.tokens.length < drafts || liftMax > 0) return true;
      }
    }
    if (path.tokens.length === 0) for (const token of found) path.addDraft(token);
    return false;
  }

  #call({ streamed }: Plan): void {
    const query = {
      ...this.#place,
      drafts: [...this.#path.tokens],
      top: this.#listLengths[this.#list].value,
      isFirst: this.counts.calls === 0,
    };
    if (streamed > 0) this.#calls.stream({ ...query, tokens: streamed });
    else {
      this.#calls.rows({ ...query, lifts: new Map(this.#lifts) }, (tokens) => {
        const promptTokens = this.#sequence.request.prompts.base.length;
        this.#sequence.cachedTokens = Math.min(tokens, promptTokens);
      });
    }
  }

  /**
   * Most lifted tokens of a position. None where more than ratios of probabilities is needed: with guards that depend on the base's
   * distribution, and with the repetition penalty, which multiplies.
   */
  get #liftMax(): number {
    const { isForced, draftModel, request } = this.#sequence;
    const { baseNucleus = 1, klBudget } = request.guards ?? {};
    const needsMore = baseNucleus < 1 || klBudget !== undefined || request.sampler.isMultiplying;
    if (isForced || !draftModel || needsMore) return 0;
    return this.#calls.canLift ? Math.floor(this.#base.liftMax / this.#base.rowsMax) : 0;
  }

  #nextPlan(): Plan {
    const sequence = this.#sequence;
    const rowsOnly = { found: [], streamed: 0 };
    if (this.#pair.some(({ decoder }) => decoder.rewind === null))
      return { ...rowsOnly, drafts: 0 };
    const rowsMax = this.#base.rowsFor(this.#load.sequences);
    if (sequence.isForced) {
      const left = sequence.nextForcedTokens(rowsMax).length;
      const drafts = Math.min(rowsMax - 1, sequence.isScoringPrompt ? left : left - 1);
      return { ...rowsOnly, drafts };
    }
    // Where each draft is a prompt of its own, each would compute the whole prompt, which no slot has yet.
    if (this.counts.calls === 0 && !this.#base.hasOnePrompt) return { ...rowsOnly, drafts: 0 };
    return this.#policy.choose({
      rowsMax,
      tokensLeft: sequence.request.output.tokensLeft,
      found: promptLookup(this.#context, FOUND_MAX),
      hasExpert: sequence.draftModel !== null,
      canStream: this.#calls.canStream,
      lists: this.#liftMax > 0 ? "lifted" : "plain",
    });
  }

  /** A token for the end of the path: the next forced one, or one that the pair proposes. Null if there is none. */
  #nextDraft(pairLogits: readonly Float32Array[], liftMax: number): number | null {
    const sequence = this.#sequence;
    const { tokens } = this.#path;
    if (sequence.isForced) {
      return sequence.nextForcedTokens(tokens.length + 1)[tokens.length] ?? null;
    }
    const proposal = propose(sequence, tokens, pairLogits, liftMax);
    for (const [id, nats] of proposal?.lifts ?? []) {
      this.#lifts.set(id, Math.max(nats, this.#lifts.get(id) ?? 0));
    }
    return proposal?.token ?? null;
  }

  /** Asks for what the certificate needs. Returns false if the base cannot tell it, or was asked often enough. */
  #askMore(row: BaseRow, { ask, deeper }: RowCertificate): boolean {
    const { idsMax, topMax } = this.#base;
    const needsList = deeper || idsMax === 0;
    const isWhole = row.topCount >= topMax;
    if (this.#asks === ASKS_MAX || (needsList ? isWhole : ask.length === 0)) return false;
    this.#asks++;
    const place = this.#place;
    // A list with all that could win takes one call, where asking for so many by their ids takes several.
    if (!isWhole && (needsList || ask.length > idsMax)) {
      const factor = DEEPER ** Math.min(DEEPER_POWER_MAX, this.#asks);
      const top = Math.min(topMax, row.topCount * factor);
      this.#calls.longerRow({ ...place, drafts: [], top });
    } else this.#calls.ids(row, { ...place, ids: ask.slice(0, idsMax) });
    return true;
  }

  /** Whether the token is beyond the request's bound, and the request wants the base alone then. */
  #fallsBack({ errorMax }: RowCertificate): boolean {
    const { baseErrorMax = 0, fallsBackToBase = false } = this.#sequence.request;
    return fallsBackToBase && errorMax > baseErrorMax;
  }

  /** @throws AppError base_failed if the token may be further from the exact one than the request allows */
  #count(row: BaseRow, { certified, errorMax }: RowCertificate): void {
    const { counts } = this;
    if (certified) {
      counts.certified++;
      return;
    }
    const { isForced, request, tokens } = this.#sequence;
    // A given token is no choice of the base: without a limit its log-probability is told with its bound.
    const { baseErrorMax = isForced ? 1 : 0 } = request;
    if (errorMax > baseErrorMax) {
      throw new AppError(
        "base_failed",
        `The base model ${this.#base.name}: token ${tokens.length} is not proven. With ${row.seen.size} known log-probabilities its distribution may be ${errorMax.toPrecision(2)} (total variation) from the exact one, and steering.base_error_max is ${baseErrorMax}. Raise it, or set steering.guards.base_nucleus or steering.base_error_action, or let the server tell more log-probabilities`,
      );
    }
    counts.bounded++;
    counts.errorMax = Math.max(counts.errorMax, errorMax);
  }

  get #context(): number[] {
    return [...this.#sequence.request.prompts.base, ...this.#sequence.tokens];
  }

  /** The position after the output. */
  get #place(): Pick<RowsQuery, "context" | "salt" | "chat"> {
    const { chat: messages, prompts } = this.#sequence.request;
    const chat = messages && { messages, replyFrom: prompts.base.length };
    return { context: this.#context, salt: this.#salt, ...(chat && { chat }) };
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
