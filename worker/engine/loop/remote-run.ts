/**
 * A sequence whose base is remote. Its calls run beside the decode loop: while one is under way, the loop decodes other
 * sequences, and this one's pair. A step never waits for a call; it uses the rows that have arrived.
 *
 * The pair may be ahead of the output by a path of drafts: the expert's own tokens, sampled with the noise of their positions.
 * One call asks for the rows along the path. Then each position draws its token from its own row, as without drafts, and the
 * path is left at the first token that differs. So drafts change the count of calls, never the tokens.
 */
import { AppError } from "../../../shared/api/errors.ts";
import type { RowsQuery } from "../remote/api.ts";
import type { BaseRow } from "../remote/base-row.ts";
import { tenantSalt, type CallCost, type RemoteBase } from "../remote/remote-base.ts";
import { certifyDecision, type RowCertificate } from "./remote-certificate.ts";
import type { RemoteCounts } from "../../engine-client/messages.ts";
import type { DraftPolicy } from "./remote-drafts.ts";
import type { ModelState, Sequence, Step } from "./sequence.ts";

/** A token that a model has to run next. */
export interface ModelInput {
  readonly model: ModelState;
  readonly id: number;
}

/** A larger list is this many times as long. */
const DEEPER = 4;

export class RemoteRun {
  readonly counts: RemoteCounts = {
    calls: 0,
    asked: 0,
    certified: 0,
    bounded: 0,
    fellBack: 0,
    errorMax: 0,
    bytes: 0,
  };
  readonly #sequence: Sequence;
  readonly #base: RemoteBase;
  readonly #drafts: DraftPolicy;
  readonly #salt: string;
  readonly #onArrival: () => void;
  readonly #abort = new AbortController();
  readonly #filled: Float32Array;
  readonly #upper: Float32Array;
  /** Drafts after the output, through which the pair has been run. */
  #path: number[] = [];
  /** Logits of the pair's models after the output and after each draft; the last ones may not be known yet. */
  #pairLogits: Float32Array[][] = [];
  /** Rows after the output and after drafts, as far as they have arrived. */
  #rows: BaseRow[] = [];
  #isCalling = false;
  #error: Error | null = null;

  /** @param onArrival called when a call has ended, so that the loop takes another step */
  constructor(sequence: Sequence, base: RemoteBase, drafts: DraftPolicy, onArrival: () => void) {
    const { vocabSize } = sequence.request.models;
    this.#sequence = sequence;
    this.#base = base;
    this.#drafts = drafts;
    this.#salt = tenantSalt(sequence.request.tenant);
    this.#onArrival = onArrival;
    this.#filled = new Float32Array(vocabSize);
    this.#upper = new Float32Array(vocabSize);
  }

  /** Whether a step can do something without waiting for a call. */
  get isReady(): boolean {
    return this.#error !== null || !this.#hasPairLogits || !this.#isCalling;
  }

  /** Tokens that the pair must run to know its logits at the end of the path; [] if they are known. */
  pairInputs(): ModelInput[] {
    if (this.#hasPairLogits || this.#error) return [];
    return this.#pair.map((model) => ({
      model,
      id: this.#path.at(-1) ?? model.pendingTokens[0]!,
    }));
  }

  /**
   * Takes the tokens that can be drawn now, then drafts or calls for more.
   * @param logitsOf logits after the inputs of `pairInputs`
   */
  advance(logitsOf: (model: ModelState) => Float32Array): Step[] {
    if (this.#error) return [{ sequence: this.#sequence, error: this.#error }];
    // Copies: a view would keep the logits of the whole batch while this sequence waits.
    if (!this.#hasPairLogits)
      this.#pairLogits.push(this.#pair.map((model) => logitsOf(model).slice()));
    const steps: Step[] = [];
    try {
      while (!this.#isCalling && this.#rows.length > 0 && this.#pairLogits.length > 0) {
        const step = this.#takeToken();
        if (!step) break;
        steps.push(step);
        if (step.finish) return steps;
      }
      if (!this.#isCalling && this.#rows.length === 0) this.#extend();
    } catch (error) {
      steps.push({ sequence: this.#sequence, error: asError(error) });
    }
    return steps;
  }

  /** Aborts its calls. */
  close(): void {
    this.#abort.abort();
  }

  get #hasPairLogits(): boolean {
    return this.#pairLogits.length > this.#path.length;
  }

  /** The models beside the base. */
  get #pair(): readonly ModelState[] {
    return this.#sequence.modelStates.slice(1);
  }

  /** Draws the next token from its row. Null if more must be asked first. */
  #takeToken(): Exclude<Step, { error: Error }> | null {
    const [row, pairLogits] = [this.#rows[0]!, this.#pairLogits[0]!];
    const sequence = this.#sequence;
    row.fill(this.#filled);
    let decision = sequence.decide([this.#filled, ...pairLogits]);
    const { isForced } = sequence;
    let certificate = isForced
      ? forcedCertificate(decision.token, row)
      : certifyDecision(sequence, decision, row, this.#upper);
    if (!certificate.certified && this.#askMore(row, certificate)) return null;
    if (!isForced && this.#fallsBack(certificate)) {
      decision = sequence.decideWithBase(decision);
      certificate = certifyDecision(sequence, decision, row, this.#upper, true);
      this.counts.fellBack++;
    }
    this.#count(row, certificate);
    if (!isForced) this.#observe(pairLogits, decision.token);
    const draft = this.#path[0];
    const step = sequence.take(decision);
    if (draft === step.token && !step.finish) {
      for (const along of [this.#path, this.#pairLogits, this.#rows]) along.shift();
    } else this.#leavePath();
    if (!step.analysis?.trace) return step;
    return { ...step, analysis: { ...step.analysis, baseError: certificate.errorMax } };
  }

  /** Whether the token of a position is the draft, or would have been it. */
  #observe(pairLogits: readonly Float32Array[], token: number): void {
    const { draftModel, drafts } = this.#sequence;
    const draft = this.#path[0];
    if (draft !== undefined) {
      drafts.expert.drafted++;
      if (draft === token) drafts.expert.accepted++;
      this.#drafts.observe(draft === token);
    } else if (draftModel) {
      const logits = pairLogits[this.#pair.indexOf(draftModel)]!;
      this.#drafts.observe(sampleOf(this.#sequence, logits) === token);
    }
  }

  /** Drops the drafts: the pair's caches then end with the output, except for its last token. */
  #leavePath(): void {
    const ahead = this.#pairLogits.length - 1;
    if (ahead > 0) {
      for (const { decoder, decoderSequence } of this.#pair)
        decoder.rewind!(decoderSequence, ahead);
    }
    this.#path = [];
    this.#pairLogits = [];
    this.#rows = [];
  }

  /** Adds a draft to the path. Calls for the rows along it when it is long enough. */
  #extend(): void {
    const wanted = this.#draftsWanted();
    if (this.#path.length < wanted) {
      if (!this.#hasPairLogits) return;
      const draft = this.#nextDraft();
      if (draft !== null) {
        this.#path.push(draft);
        if (this.#path.length < wanted) return;
      }
    }
    this.#callForPath();
  }

  /** Drafts that the next call shall have. */
  #draftsWanted(): number {
    const sequence = this.#sequence;
    if (this.#pair.some(({ decoder }) => decoder.rewind === null)) return 0;
    const { rowsMax } = this.#base;
    if (sequence.isForced) {
      const left = sequence.nextForcedTokens(rowsMax).length;
      return Math.min(rowsMax - 1, sequence.isScoringPrompt ? left : left - 1);
    }
    // The last row needs no draft after it.
    const most = Math.min(sequence.request.output.tokensLeft, rowsMax) - 1;
    return sequence.draftModel ? Math.min(most, this.#drafts.length) : 0;
  }

  /** The expert's token at the end of the path, or the next forced token. Null if there is none. */
  #nextDraft(): number | null {
    const { request, isForced, draftModel } = this.#sequence;
    const at = this.#path.length;
    if (isForced) return this.#sequence.nextForcedTokens(at + 1)[at] ?? null;
    const logits = this.#pairLogits.at(-1)![this.#pair.indexOf(draftModel!)]!;
    for (const token of this.#path) request.sampler.accept(token);
    try {
      return sampleOf(this.#sequence, logits);
    } finally {
      request.sampler.rewind(at);
    }
  }

  /** Asks for what the certificate needs. Returns false if the base cannot tell it. */
  #askMore(row: BaseRow, { ask, deeper }: RowCertificate): boolean {
    const { idsMax, topMax } = this.#base;
    const { signal } = this.#abort;
    if (!deeper && idsMax > 0 && ask.length > 0) {
      const query = { ...this.#place, ids: ask.slice(0, idsMax) };
      this.#await(async () => {
        const { row: fuller, cost } = await this.#base.ids(row, query, signal);
        this.#rows[0] = fuller;
        return cost;
      });
    } else if (row.topCount < topMax) {
      const top = Math.min(topMax, row.topCount * DEEPER);
      const query = { ...this.#place, drafts: [], top };
      this.#await(async () => {
        const { rows, cost } = await this.#base.rows(query, signal);
        this.#rows[0] = rows[0]!;
        return cost;
      });
    } else return false;
    this.counts.asked++;
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
    const { baseErrorMax = 0 } = this.#sequence.request;
    if (errorMax > baseErrorMax) {
      throw new AppError(
        "base_failed",
        `The base model ${this.#base.name}: token ${this.#sequence.tokens.length} is not proven. With ${row.seen.size} known log-probabilities its distribution may be ${errorMax.toPrecision(2)} (total variation) from the exact one, and steering.base_error_max is ${baseErrorMax}. Raise it, or set steering.guards.base_nucleus or steering.base_error_action, or let the server tell more log-probabilities`,
      );
    }
    counts.bounded++;
    counts.errorMax = Math.max(counts.errorMax, errorMax);
  }

  /** The position after the output. */
  get #place(): Pick<RowsQuery, "context" | "salt" | "chat"> {
    const { request, tokens } = this.#sequence;
    const prompt = request.prompts.base;
    const context = [...prompt, ...tokens];
    const chat = request.chat && { messages: request.chat, replyFrom: prompt.length };
    return { context, salt: this.#salt, ...(chat && { chat }) };
  }

  /** Calls for the rows along the path. */
  #callForPath(): void {
    const { top } = this.#base;
    const isFirst = this.counts.calls === 0;
    const query = { ...this.#place, drafts: [...this.#path], top, isFirst };
    this.#await(async () => {
      const { rows, cachedTokens, cost } = await this.#base.rows(query, this.#abort.signal);
      const promptTokens = this.#sequence.request.prompts.base.length;
      if (this.counts.calls === 1 && cachedTokens !== null) {
        this.#sequence.cachedTokens = Math.min(cachedTokens, promptTokens);
      }
      this.#rows = [...rows];
      this.#drafts.recordCall(cost);
      return cost;
    });
  }

  /** Lets a call run beside the loop. */
  #await(call: () => Promise<CallCost>): void {
    this.#isCalling = true;
    this.counts.calls++;
    void call()
      .then(
        ({ bytes }) => {
          this.counts.bytes += bytes;
        },
        (error: unknown) => {
          this.#error = asError(error);
        },
      )
      .then(() => {
        this.#isCalling = false;
        this.#onArrival();
      });
  }
}

/** A forced token needs no proof, only its own log-probability. */
function forcedCertificate(token: number, row: BaseRow): RowCertificate {
  const certified = row.seen.has(token);
  return { certified, ask: certified ? [] : [token], deeper: false, errorMax: certified ? 0 : 1 };
}

/** The token that a model alone would give; null if its logits allow none. */
function sampleOf(sequence: Sequence, logits: Float32Array): number | null {
  try {
    return sequence.sample(logits);
  } catch {
    return null;
  }
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new Error(String(error));
}
