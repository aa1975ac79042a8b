/**
 * The calls of one sequence to its base, and the rows that have come. A call runs beside the decode loop; `onArrival` is called when
 * something has come.
 */
import type { CallReason, RemoteCounts } from "../../engine-client/messages.ts";
import type { RowsQuery, StreamQuery } from "../remote/api.ts";
import { InvalidRow, RefusedStream, type BaseRow } from "../remote/base-row.ts";
import type { RemoteBase } from "../remote/remote-base.ts";
import type { BaseLoad } from "./remote-load.ts";
import { RowTree } from "./remote-tree.ts";

export interface RowCallsOptions {
  readonly base: RemoteBase;
  readonly load: BaseLoad;
  readonly counts: RemoteCounts;
  readonly onArrival: () => void;
}

const sumOf = (counts: readonly number[]) => counts.reduce((sum, count) => sum + count, 0);

/** A row for which the server computes more tokens has a prompt that was not in its cache. */
const FILL_TOKENS = 32;
/** After so many broken streams one after the other, a job has no further one. */
const BROKEN_MAX = 3;

export class RowCalls {
  readonly #options: RowCallsOptions;
  readonly #abort = new AbortController();
  /** Ends the stream of `tree`. */
  #stream: AbortController | null = null;
  #tree: RowTree | null = null;
  /** Whether a call is under way without which no token can be drawn. */
  isWaiting = false;
  error: Error | null = null;
  /** False once a stream had a wrong reply, or too many have broken. */
  #canStream: boolean;
  /** False once a stream with a lead had a wrong reply. */
  #canLead: boolean;
  /** Whether a stream with a lead was refused, and the call after it has not been served yet. */
  #isLeadRefused = false;
  /** Streams one after the other whose connection broke before their first row. */
  #broken = 0;
  /** Whether the latest call was such a stream. */
  #hasBroken = false;
  /** False once the server could not tell lifted tokens. */
  canLift = true;
  /** Why the next call for rows is made. */
  #reason: CallReason = "first";
  /** The slot that has the context in its cache, as far as it is known. */
  #slot: number | null = null;
  /** Whether the server may not know yet that its stream was left. */
  #isSlotBusy = false;
  /** Whether the server may have to end a stream that was left before it serves the next call. */
  #isLate = false;
  /** Whether the rows of the latest call had prompts that the server computed anew. */
  #wasFill = false;

  constructor(options: RowCallsOptions) {
    this.#options = options;
    this.#canStream = options.base.canStream;
    this.#canLead = options.base.canLead;
    options.load.sequences++;
  }

  /** After a broken stream, rows are called for: their call is repeated while the base is away. */
  get canStream(): boolean {
    return this.#canStream && !this.#hasBroken;
  }

  get canLead(): boolean {
    return this.#canLead && this.#options.load.canLead;
  }

  /** Rows of the latest call; null if none of them is of the next position. */
  get tree(): RowTree | null {
    return this.#tree;
  }

  /** Drops the rows, and ends their stream. */
  leave(): void {
    this.#reason = this.#tree?.reason ?? this.#reason;
    this.endStream();
    this.#tree = null;
  }

  /** No more rows come; those that have come stay. A stream that has all its rows ends by itself, and keeps its connection. */
  endStream(): void {
    const isLeft = this.#tree?.isOpen && !this.#tree.isComplete;
    if (isLeft) {
      this.#stream?.abort();
      this.#isSlotBusy = true;
      this.#isLate = true;
    }
    this.#stream = null;
    if (this.#tree) this.#tree.isOpen = false;
  }

  #takeLate(): boolean {
    const isLate = this.#isLate;
    this.#isLate = false;
    return isLate;
  }

  /** The slot that the next call has to wait for: another one does not have the context in its cache. */
  #takeSlot(): number | null {
    const slot = this.#isSlotBusy ? this.#ownSlot : null;
    this.#isSlotBusy = false;
    return slot;
  }

  /** Null if the slot is not known, or if another sequence uses it now, perhaps one of another worker. */
  get #ownSlot(): number | null {
    const { base, load } = this.#options;
    const slot = this.#slot;
    if (slot === null || !load.namesSlots || load.slotUsers.get(slot) !== this) return null;
    return base.canWaitFor(slot, load.sequences) ? slot : null;
  }

  #keepSlot(slot: number | null): void {
    this.#slot = slot;
    if (slot !== null) this.#options.load.slotUsers.set(slot, this);
  }

  /** Aborts all calls. */
  close(): void {
    const { load } = this.#options;
    this.#abort.abort();
    if (this.#slot !== null && load.slotUsers.get(this.#slot) === this) {
      load.slotUsers.delete(this.#slot);
    }
    load.sequences--;
  }

  /**
   * Calls for the rows after the context and after each draft.
   * @param onCached called with the count of the context's tokens that the server had in its cache, if it is the first call
   */
  rows(query: RowsQuery, onCached: (tokens: number) => void): void {
    const { load } = this.#options;
    const count = query.drafts.length + 1;
    const isLate = this.#takeLate();
    const atOnce = load.begin(count);
    this.#await(this.#reason, async () => {
      const slot = this.#takeSlot();
      const reply = await this.#rowsOf({ ...query, slot }).finally(() => load.end(count));
      const { rows, cachedTokens, cost } = reply;
      if (query.isFirst && cachedTokens !== null) onCached(cachedTokens);
      this.#recordRows(query, reply, { slot, atOnce, isLate });
      this.#keepSlot(reply.slot ?? null);
      this.#served();
      this.#tree = RowTree.ofRows(query.drafts, rows);
      return cost.bytes;
    });
  }

  #recordRows(
    { drafts, isFirst }: RowsQuery,
    { computedTokens, cost }: Awaited<ReturnType<RemoteBase["rows"]>>,
    { slot, atOnce, isLate }: { slot: number | null; atOnce: number; isLate: boolean },
  ): void {
    const { load } = this.#options;
    // The first call in each slot of a server computes the prompt. It does not count as the time of a row. If the call before it has
    // computed a prompt too, it counts: then the server keeps no prompts.
    const isFill = computedTokens?.some((tokens) => tokens > FILL_TOKENS) ?? false;
    if (!isFirst && (!isFill || this.#wasFill)) {
      if (isLate && drafts.length === 0) load.recordLate(cost.ms, atOnce);
      else load.recordCall(cost.ms, atOnce, computedTokens);
    }
    // Another worker or program has taken the slot since.
    if (isFill && slot !== null && drafts.length === 0) load.slotWasTaken();
    if (isFill) load.recordFill(cost.ms, sumOf(computedTokens ?? []));
    this.#wasFill = isFill && !isFirst;
  }

  /** Without the lifted tokens if the server cannot tell them. */
  async #rowsOf(query: RowsQuery) {
    const { base } = this.#options;
    const { lifts, ...plain } = query;
    const reply = await base.rows(query, this.#abort.signal);
    if (reply.rows.length > 0 || !lifts?.size) return reply;
    this.canLift = false;
    this.#count("unlifted");
    return base.rows({ ...plain, top: base.top }, this.#abort.signal);
  }

  /** Asks for a longer list of the position. */
  longerRow(query: RowsQuery): void {
    this.#askAgain("longer", async (signal) => {
      const pinned = { ...query, slot: this.#takeSlot() };
      const { rows, cost } = await this.#options.base.rows(pinned, signal);
      return { row: rows[0]!, bytes: cost.bytes };
    });
  }

  /** Asks for tokens of the position by their ids. */
  ids(row: BaseRow, query: Parameters<RemoteBase["ids"]>[1]): void {
    this.#askAgain("ids", async (signal) => {
      const pinned = { ...query, slot: this.#takeSlot() };
      const { row: fuller, cost } = await this.#options.base.ids(row, pinned, signal);
      return { row: fuller, bytes: cost.bytes };
    });
  }

  /** Streams the base's continuations of the context and of each draft. If it fails, a stream without a lead or rows are called for. */
  stream(query: StreamQuery): void {
    const { onArrival } = this.#options;
    const stream = new AbortController();
    const tree = RowTree.ofStream(query);
    this.#stream = stream;
    this.#tree = tree;
    this.#count(this.#reason);
    // Several prompts take several slots. One takes that of its context, also if it is free: a stream does not tell its slot before its end.
    this.#isSlotBusy = false;
    if (query.drafts.length > 0) this.#slot = null;
    const pinned = { ...query, slot: this.#ownSlot };
    this.#slot = pinned.slot;
    void this.#follow(tree, AbortSignal.any([this.#abort.signal, stream.signal]), pinned)
      .then(
        () => null,
        (error: unknown) => error,
      )
      .then((error) => {
        if (!stream.signal.aborted) {
          if (!tree.hasFirstRow) this.#failed(error, query.lead.length > 0);
          // It has made room for another call, perhaps: then the server goes on for a while.
          this.#isSlotBusy ||= !tree.isComplete;
          this.#isLate ||= !tree.isComplete;
        }
        tree.isOpen = false;
        onArrival();
      });
  }

  /**
   * A stream has ended without the row of the first position. Other branches may have rows, but without that one the same stream would be
   * asked for again and again.
   * @param error null if it has ended otherwise: the server sends no rows of tokens that end within a character
   */
  #failed(error: unknown, hasLead: boolean): void {
    const isWrong = error === null || error instanceof InvalidRow || error instanceof TypeError;
    if (!isWrong) {
      this.#hasBroken = true;
      if (++this.#broken === BROKEN_MAX) this.#canStream = false;
    } else if (hasLead) {
      this.#canLead = false;
      this.#isLeadRefused = error instanceof RefusedStream;
    } else this.#canStream = false;
  }

  /** Rows have come. If a lead was refused before them, it was because of the lead: so it is for all sequences. */
  #served(): void {
    if (this.#isLeadRefused) this.#options.load.canLead = false;
    this.#isLeadRefused = false;
    this.#hasBroken = false;
  }

  async #follow(tree: RowTree, signal: AbortSignal, query: StreamQuery): Promise<void> {
    const { base, load, counts, onArrival } = this.#options;
    const branches = query.drafts.length + 1;
    const isLate = this.#takeLate();
    const atOnce = load.begin(branches);
    try {
      let [lastMs, arrived] = [performance.now(), 0];
      for await (const { rows, bytes } of base.stream(query, signal)) {
        counts.bytes += bytes;
        for (const row of rows) {
          tree.add(row);
          // One branch keeps the time of all: their rows are of the same steps of the server.
          if (row.branch > 0) continue;
          const ms = performance.now() - lastMs;
          if (arrived++ > 0) load.recordStep(ms);
          else {
            if (isLate) load.recordLate(ms, atOnce);
            else load.recordCall(ms, atOnce, null);
            this.#broken = 0;
            this.#served();
          }
          lastMs += ms;
        }
        onArrival();
      }
    } finally {
      load.end(branches);
    }
  }

  #askAgain(
    reason: CallReason,
    ask: (signal: AbortSignal) => Promise<{ row: BaseRow; bytes: number }>,
  ): void {
    const tree = this.#tree!;
    this.#takeLate();
    this.#options.counts.asked++;
    this.#await(reason, async () => {
      const { row, bytes } = await ask(this.#abort.signal);
      tree.replaceRow(row);
      return bytes;
    });
  }

  /** Lets a call run beside the loop. @param call returns its bytes */
  #await(reason: CallReason, call: () => Promise<number>): void {
    const { counts, onArrival } = this.#options;
    this.isWaiting = true;
    this.#count(reason);
    void call()
      .then(
        (bytes) => {
          counts.bytes += bytes;
        },
        (error: unknown) => {
          this.error = error instanceof Error ? error : new Error(String(error));
        },
      )
      .then(() => {
        this.isWaiting = false;
        onArrival();
      });
  }

  #count(reason: CallReason): void {
    const { counts } = this.#options;
    counts.calls++;
    counts.reasons[reason] = (counts.reasons[reason] ?? 0) + 1;
  }
}
