/**
 * The interface of one loaded model, and the folder's main file. The folder runs a decoder graph with onnxruntime and owns
 * the KV caches: it takes token ids and returns logits. It knows nothing of ensembles, sampling, text or jobs, and nothing
 * of how a graph was prepared (../graph).
 *
 * To add a kind of decoder: implement `Decoder` in a file of this folder and construct it in model/load-graph.ts.
 */
import type { KvRows } from "./kv-cache.ts";

/** The next token of one sequence. */
export interface DecodeInput<S> {
  readonly sequence: S;
  /** Token id. */
  readonly id: number;
}

/** The next tokens of one sequence. */
export interface ScoreInput<S> {
  readonly sequence: S;
  /** Token ids, at least one. */
  readonly ids: readonly number[];
}

/**
 * A loaded model. `S` is the decoder's own handle of a sequence: its tokens so far, in a KV cache.
 * Only one call may run at a time. A method that runs the graph rejects with onnxruntime's error if the run fails.
 */
export interface Decoder<S = unknown> {
  /** The decoder whose runs and caches hold the sequences of this one, beside its own; absent for itself (AdapterDecoder). */
  readonly host?: Decoder<S>;
  /** Number of logits for each token, >= the vocabulary size V; null if the graph does not declare it. */
  readonly logitsWidth: number | null;
  /**
   * Null if the KV cache is held in JS memory and sequences run as a batch (ExternalCacheDecoder). Otherwise the reason why
   * each sequence runs alone and its cache passes through every run (PassthroughCacheDecoder).
   */
  readonly fallbackReason: string | null;
  /**
   * Whether a token has exactly the same logits in every run: alone, beside other sequences, as a draft, in any chunk. Only known
   * of graphs that quantize activations, because only there a difference in the last digit matters; false for others.
   */
  readonly hasExactRows: boolean;
  /** Bytes of the KV caches of all open sequences. */
  readonly cacheBytes: number;
  /** Bytes that the KV caches of sequences with these lengths in tokens need at least, all open at once. */
  cacheBytesFor(lengths: readonly number[]): number;
  /**
   * Bounds `cacheBytes` between runs: at least `cacheBytesFor` the lengths that the open sequences may have. Absent if the caches never
   * have more than their sequences need.
   */
  limitCache?(bytesMax: number): void;
  /** Makes room for this many tokens in a sequence's KV cache, or in each; absent if a cache has no unused entries. */
  reserve?(tokens: number, sequence?: S): void;
  /** Opens a sequence with an empty KV cache. */
  open(): S;
  /** Closes a sequence and frees its KV cache. */
  close(sequence: S): void;
  /** Appends tokens to a sequence without returning their logits. */
  prefill(sequence: S, ids: readonly number[]): Promise<void>;
  /**
   * Appends tokens to each of several sequences, in one run where the graph can.
   * @param inputs at most one for each sequence
   * @returns logits [>= V] after the last token of each, in the order of the inputs
   */
  prefillAll(inputs: readonly ScoreInput<S>[]): Promise<Float32Array[]>;
  /**
   * Appends one token to each sequence.
   * @param inputs at most one for each sequence
   * @returns logits [>= V] after the token, in the order of the inputs
   */
  decode(inputs: readonly DecodeInput<S>[]): Promise<Float32Array[]>;
  /**
   * Appends several tokens to one sequence in one run, which costs little more than a run with one token.
   * @returns logits [>= V] after each of the tokens
   */
  score(sequence: S, ids: readonly number[]): Promise<Float32Array[]>;
  /**
   * Appends several tokens to each of several sequences. Sequences with fewer tokens than others cost as much as those.
   * Null if the graph cannot run several tokens of several sequences at once.
   * @param inputs at most one for each sequence
   * @returns logits [>= V] after each of the tokens, in the order of the inputs
   */
  readonly scoreAll: ((inputs: readonly ScoreInput<S>[]) => Promise<Float32Array[][]>) | null;
  /** Removes the last `count` tokens of a sequence; null if the KV cache cannot be shortened. */
  readonly rewind: ((sequence: S, count: number) => void) | null;
  /** Copies keys and values between sequences; null if the KV cache cannot be read. */
  readonly kvRows: {
    /** Bytes of one token's keys and values in all layers. */
    readonly bytesPerToken: number;
    /** Copies the keys and values of `count` tokens, from token `start` on. */
    readonly read: (sequence: S, start: number, count: number) => KvRows;
    /** Appends blocks of `count` tokens each. The result is as if these tokens had been prefilled. */
    readonly append: (sequence: S, blocks: readonly KvRows[], count: number) => void;
  } | null;
}

/** The decoder that runs a decoder's sequences and holds their caches. */
export const hostOf = (decoder: Decoder): Decoder => decoder.host ?? decoder;
