/**
 * The calls of one sequence to its base, and the rows that have come. A call runs beside the decode loop; `onArrival` is called when
 * something has come.
 */
import type { CallReason, RemoteCounts } from "../../engine-client/messages.ts";
import type { RowsQuery, StreamQuery } from "../remote/api.ts";
import type { BaseRow } from "../remote/base-row.ts";
import type { RemoteBase } from "../remote/remote-base.ts";
import type { BaseLoad } from "./remote-load.ts";
import { RowTree } from "./remote-tree.ts";

export interface RowCallsOptions {
  readonly base: RemoteBase;
  readonly load: BaseLoad;
  readonly counts: RemoteCounts;
  readonly onArrival: () => void;
}

export class RowCalls {
  readonly #options: RowCallsOptions;
  readonly #abort = new AbortController();
  /** Ends the stream of `tree`. */
  #stream: AbortController | null = null;
  #tree: RowTree | null = null;
  /** Whether a call is under way without which no token can be drawn. */
  isWaiting = false;
  error: Error | null = null;
  canStream: boolean;
  /** False once the server could not tell lifted tokens. */
  canLift = true;
  /** Why the next call for rows is made. */
  #reason: CallReason = "first";

  constructor(options: RowCallsOptions) {
    this.#options = options;
    this.canStream = options.base.canStream;
    options.load.sequences++;
  }

  /** Rows of the latest call; null if none of them is of the next position. */
  get tree(): RowTree | null {
    return this.#tree;
  }

  /** Drops the rows, and ends their stream. */
  leave(): void {
    this.#stream?.abort();
    this.#stream = null;
    this.#reason = this.#tree?.reason ?? this.#reason;
    this.#tree = null;
  }

  /** Aborts all calls. */
  close(): void {
    this.#abort.abort();
    this.#options.load.sequences--;
  }

  /**
   * Calls for the rows after the context and after each draft.
   * @param onCached called with the count of the context's tokens that the server had in its cache, if it is the first call
   */
  rows(query: RowsQuery, onCached: (tokens: number) => void): void {
    const { load } = this.#options;
    const count = query.drafts.length + 1;
    const atOnce = load.begin(count);
    this.#await(this.#reason, async () => {
      const { rows, cachedTokens, cost } = await this.#rowsOf(query).finally(() => load.end(count));
      if (query.isFirst && cachedTokens !== null) onCached(cachedTokens);
      // The first call computes the prompt too.
      if (!query.isFirst) load.recordCall(cost.ms, atOnce);
      this.#tree = RowTree.ofRows(query.drafts, rows);
      return cost.bytes;
    });
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
      const { rows, cost } = await this.#options.base.rows(query, signal);
      return { row: rows[0]!, bytes: cost.bytes };
    });
  }

  /** Asks for tokens of the position by their ids. */
  ids(row: BaseRow, query: Parameters<RemoteBase["ids"]>[1]): void {
    this.#askAgain("ids", async (signal) => {
      const { row: fuller, cost } = await this.#options.base.ids(row, query, signal);
      return { row: fuller, bytes: cost.bytes };
    });
  }

  /** Streams the base's continuations of the context and of each draft. If it fails, rows are called for. */
  stream(query: StreamQuery): void {
    const { onArrival } = this.#options;
    const stream = new AbortController();
    const tree = RowTree.ofStream(query.drafts, query.tokens);
    this.#stream = stream;
    this.#tree = tree;
    this.#count(this.#reason);
    void this.#follow(tree, AbortSignal.any([this.#abort.signal, stream.signal]), query)
      .catch(() => {})
      .then(() => {
        // It failed, or the server sends no rows of tokens that end within a character: rows are called for from now on. Other
        // branches may have rows, but without that of the first position the same stream would be asked for again and again.
        if (!stream.signal.aborted && !tree.hasFirstRow) this.canStream = false;
        tree.isOpen = false;
        onArrival();
      });
  }

  async #follow(tree: RowTree, signal: AbortSignal, query: StreamQuery): Promise<void> {
    const { base, load, counts, onArrival } = this.#options;
    const branches = query.drafts.length + 1;
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
          else load.recordCall(ms, atOnce);
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
