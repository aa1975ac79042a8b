/**
 * A decoder for graphs as they were exported. The graph returns the whole KV cache as `present`, which is passed to the next
 * run as `past`, and each sequence runs alone. This is slower, but works with every export, and the cache can stay in
 * the memory of a GPU.
 */
import type { InferenceSession, Tensor } from "../onnxruntime/onnxruntime.ts";
import type { DecodeInput, Decoder, ScoreInput } from "./decoder.ts";
import { release } from "./free-arrays.ts";
import {
  bytesPerToken,
  cacheTensor,
  LOGITS,
  logitsRow,
  logitsRows,
  type CacheValues,
  type GraphIo,
} from "./graph-io.ts";

export interface PassthroughSequence {
  /** The KV cache, by input. */
  past: Readonly<Record<string, Tensor>>;
  /** Tokens in the cache. */
  length: number;
}

export class PassthroughCacheDecoder implements Decoder<PassthroughSequence> {
  readonly fallbackReason: string;
  readonly hasExactRows = false;
  readonly rewind = null;
  readonly kvRows = null;
  readonly scoreAll = null;
  readonly #session: InferenceSession;
  readonly #io: GraphIo;
  readonly #open = new Set<PassthroughSequence>();

  /** @param fallbackReason why this graph does not run with an ExternalCacheDecoder */
  constructor(session: InferenceSession, io: GraphIo, fallbackReason: string) {
    this.#session = session;
    this.#io = io;
    this.fallbackReason = fallbackReason;
  }

  get logitsWidth(): number | null {
    return this.#io.logitsWidth;
  }

  get cacheBytes(): number {
    const tokens = [...this.#open].reduce((sum, { length }) => sum + length, 0);
    return tokens * bytesPerToken(this.#io.pastInputs);
  }

  cacheBytesFor(lengths: readonly number[]): number {
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    // A run allocates the new cache before the old one is freed.
    return 2 * tokens * bytesPerToken(this.#io.pastInputs);
  }

  open(): PassthroughSequence {
    const empty = this.#io.pastInputs.map(({ name, type, emptyShape }) => {
      const values = type === "float16" ? new Float16Array() : new Float32Array();
      return [name, cacheTensor(values, emptyShape)] as const;
    });
    const sequence = { past: Object.fromEntries(empty), length: 0 };
    this.#open.add(sequence);
    return sequence;
  }

  close(sequence: PassthroughSequence): void {
    this.#open.delete(sequence);
    for (const tensor of Object.values(sequence.past)) free(tensor);
  }

  async prefill(sequence: PassthroughSequence, ids: readonly number[]): Promise<void> {
    await this.#run(sequence, ids, 1);
  }

  async prefillAll(inputs: readonly ScoreInput<PassthroughSequence>[]): Promise<Float32Array[]> {
    const logits: Float32Array[] = [];
    for (const { sequence, ids } of inputs) {
      const results = await this.#run(sequence, ids, 1);
      logits.push(lastRow(results[LOGITS] as Tensor));
    }
    return logits;
  }

  decode(inputs: readonly DecodeInput<PassthroughSequence>[]): Promise<Float32Array[]> {
    return this.prefillAll(inputs.map(({ sequence, id }) => ({ sequence, ids: [id] })));
  }

  async score(sequence: PassthroughSequence, ids: readonly number[]): Promise<Float32Array[]> {
    const results = await this.#run(sequence, ids);
    return logitsRows(results[LOGITS] as Tensor);
  }

  async #run(
    sequence: PassthroughSequence,
    ids: readonly number[],
    logitsCount = ids.length,
  ): Promise<InferenceSession.ReturnType> {
    const { past, length } = sequence;
    const rows = [{ ids, pastTokens: length }];
    const feeds = { ...past, ...this.#io.feeds(rows, length, logitsCount) };
    // All outputs are fetched: onnxruntime-node cannot select outputs if some of them stay in the memory of a GPU.
    const results = await this.#session.run(feeds);
    sequence.past = Object.fromEntries(
      this.#io.pastInputs.map(({ name, output }) => [name, asInput(results[output] as Tensor)]),
    );
    for (const tensor of Object.values(past)) free(tensor);
    sequence.length += ids.length;
    return results;
  }
}

const lastRow = (logits: Tensor) => logitsRow(logits, logits.dims[1]! - 1);

function asInput(present: Tensor): Tensor {
  const isOnDevice = present.location === "gpu-buffer";
  return isOnDevice ? present : cacheTensor(present.data as CacheValues, present.dims);
}

function free(past: Tensor): void {
  if (past.location === "cpu") release(past.data as CacheValues);
  // GPU memory is not garbage-collected.
  past.dispose();
}
