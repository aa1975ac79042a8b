/**
 * A sequence whose base is remote. Its calls run beside the decode loop: while one is under way, the loop decodes other
 * sequences, and this one's pair. A step never waits for a call; it uses the rows that have arrived.
 *
 * A call asks for the rows of several positions: along drafts (remote-policy.ts has their kinds), or along the base's own
 * continuation. Then each position draws its token from its own row, as without drafts, and rows that the output does not reach are
 * dropped. So drafts change the count of calls, never the tokens.
 */
import { AppError } from "../../../shared/api/errors.ts";
import { emptyRemoteCounts } from "../../engine-client/messages.ts";
import type { RowsQuery } from "../remote/api.ts";
import type { BaseRow } from "../remote/base-row.ts";
import type { RemoteBase } from "../remote/remote-base.ts";
import { tenantSalt } from "../remote/tenant-salt.ts";
import type { BaseLoad } from "./remote-load.ts";
import { ListLength } from "./remote-list-length.ts";
import type { ModelInput } from "./remote-path.ts";
import type { ListKind } from "./draft-statistics.ts";
import { RemoteDrafts } from "./remote-drafts.ts";
import type { ForcedDrafter } from "./remote-policy.ts";
import { RowCalls } from "./remote-calls.ts";
import { certifyDecision, certifyForced, type RowCertificate } from "./remote-certificate.ts";
import type { Decision, ModelState, Sequence, Step } from "./sequence.ts";

/** A longer list is this many times as long, and after each other question that has not helped as many times more. */
const DEEPER = 4;
const DEEPER_POWER_MAX = 3;
/** How often the base is asked again about one position. Then its token counts as not proven. */
const ASKS_MAX = 6;
/** A question waits for the end of a stream that has no more than so many rows to come. */
const POSTPONED_ROWS_MAX = 8;
/** It waits so many times as long as these rows should take. The server may have stalled. */
const POSTPONED_TIMES = 2;
/** A row is taken to need at least so long for it: rows come in bursts. */
const POSTPONED_ROW_MIN_MS = 5;
/** So many times as long is the list of the first call. */
const FIRST_LISTS = 3;

export class RemoteRun {
  readonly counts = emptyRemoteCounts();
  readonly #sequence: Sequence;
  readonly #base: RemoteBase;
  readonly #drafts: RemoteDrafts;
  readonly #listLengths: Readonly<Record<ListKind, ListLength>>;
  readonly #salt: string;
  readonly #filled: Float32Array;
  readonly #upper: Float32Array;
  /** The kind of the lists that have come. */
  #list: ListKind = "plain";
  readonly #calls: RowCalls;
  /** How often the base was asked again about this position. */
  #asks = 0;
  /** Leaves the stream for whose end the question about this position waits; null if the question was not postponed. */
  #postponed: NodeJS.Timeout | null = null;
  readonly #load: BaseLoad;
  readonly #onArrival: () => void;

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
    this.#onArrival = onArrival;
    this.#listLengths = { lifted: new ListLength(base.top), plain: new ListLength(base.top) };
    this.#salt = tenantSalt(sequence.request.tenant);
    this.#filled = new Float32Array(vocabSize);
    this.#upper = new Float32Array(vocabSize);
    this.#calls = new RowCalls({ base, load, counts: this.counts, onArrival });
    this.#drafts = new RemoteDrafts({ sequence, base, load, calls: this.#calls, drafter });
    this.#callFirst();
  }

  /** Whether a step can do something without waiting for a call. */
  get isReady(): boolean {
    const { error, isWaiting, tree } = this.#calls;
    // With drafts ahead of the output, the first logits are known and the last ones may not be.
    if (error || this.#drafts.path.last === undefined) return true;
    return !isWaiting && !this.#awaitsEnd && (!tree || tree.row !== null || !tree.isUseful);
  }

  /** Tokens that the pair must run next; [] if its logits are known. */
  pairInputs(): ModelInput[] {
    return this.#calls.error ? [] : this.#drafts.path.inputs;
  }

  /**
   * Takes the tokens that can be drawn now, then drafts or calls for more.
   * @param logitsOf logits after the inputs of `pairInputs`
   */
  advance(logitsOf: (model: ModelState) => Float32Array): Step[] {
    const calls = this.#calls;
    if (calls.error) return [{ sequence: this.#sequence, error: calls.error }];
    if (this.#drafts.path.last === undefined) this.#drafts.path.addLogits(this.#pair.map(logitsOf));
    const steps: Step[] = [];
    try {
      while (!calls.isWaiting && !this.#awaitsEnd && calls.tree?.row && this.#drafts.path.first) {
        const step = this.#takeToken(calls.tree.row, this.#drafts.path.first);
        if (!step) break;
        steps.push(step);
        if (step.finish) return steps;
      }
      if (calls.tree && !calls.tree.isUseful) calls.leave();
      this.#draft();
    } catch (error) {
      steps.push({ sequence: this.#sequence, error: asError(error) });
    }
    return steps;
  }

  /** Forgets the drafts, because the pair's caches are empty again. The rows that have arrived stay right. */
  restart(): void {
    this.#drafts.restart();
  }

  /** Aborts its calls. */
  close(): void {
    this.#endPostponement();
    this.#calls.close();
  }

  /** Whether the stream has to end before the position is asked about. */
  get #awaitsEnd(): boolean {
    const { tree } = this.#calls;
    return this.#postponed !== null && tree !== null && tree.isOpen && !tree.isComplete;
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
    if (this.#asks === 0 && !this.#postponed && !isForced) {
      this.#listLengths[this.#list].observe(certificate.certified);
      this.#drafts.policy.observeProof(this.#list, certificate.certified);
    }
    const isOpen = !certificate.certified;
    if (isOpen && (this.#postpones(decision) || this.#askMore(row, certificate))) return null;
    if (!isForced && this.#fallsBack(certificate)) {
      decision = sequence.decideWithBase(decision);
      certificate = certifyDecision(sequence, decision, row, this.#upper, true);
      this.counts.fellBack++;
    }
    this.#count(row, certificate);
    const { token } = decision;
    const tree = this.#calls.tree!;
    const isDrafted = !isForced && this.#drafts.observe(row, tree.baseToken, pairLogits, token);
    const step = sequence.take(decision);
    this.#asks = 0;
    this.#endPostponement();
    tree.advance(token);
    this.#drafts.advance(token, step.finish !== null);
    if (!step.analysis?.trace) return step;
    return { ...step, analysis: { ...step.analysis, isDrafted, baseError: certificate.errorMax } };
  }

  #draft(): void {
    const { tree, isWaiting } = this.#calls;
    if (isWaiting || tree?.isOpen) this.#drafts.growAhead();
    if (!tree && !isWaiting) this.#extend();
  }

  /** Calls for rows, unless the pair must draft more first. */
  #extend(): void {
    const drafted = this.#drafts.next();
    if (!drafted) return;
    const { drafts, lifts, list, streamed, isLead } = drafted;
    this.#list = list;
    const query = this.#query(list);
    if (streamed === 0) this.#callRows({ ...query, drafts, lifts });
    else if (isLead) this.#calls.stream({ ...query, drafts: [], lead: drafts, tokens: streamed });
    else this.#calls.stream({ ...query, drafts, lead: [], tokens: streamed });
  }

  /** Lets a server compute the prompt while the pair does. A prompt for each draft would be computed as often. */
  #callFirst(): void {
    if (this.#sequence.isForced || this.#base.hasOnePrompt) return;
    // Without the pair's logits no lifted tokens are known.
    const top = Math.min(this.#base.topMax, this.#base.top * FIRST_LISTS);
    this.#callRows({ ...this.#query("plain"), drafts: [], top });
  }

  #callRows(query: RowsQuery): void {
    this.#calls.rows(query, (tokens) => {
      const promptTokens = this.#sequence.request.prompts.base.length;
      this.#sequence.cachedTokens = Math.min(tokens, promptTokens);
    });
  }

  #query(list: ListKind) {
    const top = this.#listLengths[list].value;
    return { ...this.#place, top, isFirst: this.counts.calls === 0 };
  }

  /**
   * Beside a stream a question would need a cache of its own, so the stream is left for it. One that goes along the drawn token, which is
   * most often the right one, may end first: the next call then does not wait for the server, and the rows that come are of use.
   */
  #postpones({ token }: Decision): boolean {
    if (!this.#base.hasSlots || this.#postponed) return false;
    const rows = this.#calls.tree!.rowsToCome(token);
    if (rows === 0 || rows > POSTPONED_ROWS_MAX) return false;
    const rowMs = Math.max(POSTPONED_ROW_MIN_MS, this.#load.rowMs);
    this.#postponed = setTimeout(
      () => {
        this.#calls.endStream();
        this.#onArrival();
      },
      POSTPONED_TIMES * rows * rowMs,
    );
    return true;
  }

  #endPostponement(): void {
    if (this.#postponed) clearTimeout(this.#postponed);
    this.#postponed = null;
  }

  /** Asks for what the certificate needs. Returns false if the base cannot tell it, or was asked often enough. */
  #askMore(row: BaseRow, { ask, deeper }: RowCertificate): boolean {
    const { idsMax, topMax } = this.#base;
    const needsList = deeper || idsMax === 0;
    const isWhole = row.topCount >= topMax;
    if (this.#asks === ASKS_MAX || (needsList ? isWhole : ask.length === 0)) return false;
    this.#asks++;
    if (this.#base.hasSlots) this.#calls.endStream();
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

  /** The position after the output. */
  get #place(): Pick<RowsQuery, "context" | "salt" | "chat"> {
    const { request, tokens } = this.#sequence;
    const { chat: messages, prompts } = request;
    const chat = messages && { messages, replyFrom: prompts.base.length };
    return { context: [...prompts.base, ...tokens], salt: this.#salt, ...(chat && { chat }) };
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
