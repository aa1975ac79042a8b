/** One model as the loop sees it. */
import type { TokenRows } from "./kv-cache.ts";

/** One sequence's next token. */
export interface Turn<S> {
  readonly sequence: S;
  readonly id: number;
}

/** A loaded model. S is one inference timeline in it, with its cache. */
export interface Decoder<S = unknown> {
  /** Width of a row of logits, or null if the graph does not say before it runs. */
  readonly logitsWidth: number | null;
  /** Why this model decodes without a cache of ours, one sequence at a time, or null if it does not. */
  readonly slowBecause: string | null;
  /** Bytes of all open sequences' caches. */
  readonly cacheBytes: number;
  /** Bytes that the caches of sequences of these lengths come to, together. */
  cacheBytesFor(lengths: readonly number[]): number;
  /** Starts a sequence with an empty cache. */
  open(): S;
  close(sequence: S): void;
  /** Puts tokens into the cache; their logits are of no interest. */
  prefill(sequence: S, ids: readonly number[]): Promise<void>;
  /**
   * Runs one more token of each sequence.
   * @returns logits [>= V] after it, in the order of the turns
   */
  decode(turns: readonly Turn<S>[]): Promise<Float32Array[]>;
  /**
   * Runs several tokens of one sequence at once, for little more than the price of one.
   * @returns logits [>= V] after each of them
   */
  score(sequence: S, ids: readonly number[]): Promise<Float32Array[]>;
  /** Forgets the last tokens of a sequence; null where the cache cannot. */
  readonly rewind: ((sequence: S, count: number) => void) | null;
  /** Takes tokens' rows out of a sequence and puts them into another; null where the cache cannot. */
  readonly rows: {
    readonly bytesPerToken: number;
    /** Copies the rows of `count` tokens from `start` on. */
    readonly read: (sequence: S, start: number, count: number) => TokenRows;
    /** Appends blocks of `count` tokens each, as if these had been prefilled. */
    readonly append: (sequence: S, blocks: readonly TokenRows[], count: number) => void;
  } | null;
}
