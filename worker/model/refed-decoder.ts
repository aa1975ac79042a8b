/**
 * A decoder for graphs as they were exported: what they return as `present` is fed back as `past`, whole, at every step,
 * and each sequence runs alone. Slower, right for every export, and the way to leave a cache in a device's memory.
 */
import type { InferenceSession, Tensor } from "onnxruntime-node";
import type { Decoder, Turn } from "./decoder.ts";
import {
  bytesPerToken,
  cacheTensor,
  LOGITS,
  logitsRow,
  logitsRows,
  type CacheValues,
  type GraphIo,
} from "./graph-io.ts";

export interface RefedSequence {
  past: Readonly<Record<string, Tensor>>;
  length: number;
}

export class RefedDecoder implements Decoder<RefedSequence> {
  /** Why the whole cache is copied at every step. */
  readonly slowBecause: string;
  readonly #session: InferenceSession;
  readonly #io: GraphIo;
  readonly rewind = null;
  readonly rows = null;
  readonly #open = new Set<RefedSequence>();

  constructor(session: InferenceSession, io: GraphIo, slowBecause: string) {
    this.#session = session;
    this.#io = io;
    this.slowBecause = slowBecause;
  }

  get logitsWidth(): number | null {
    return this.#io.logitsWidth;
  }

  get cacheBytes(): number {
    const tokens = [...this.#open].reduce((sum, { length }) => sum + length, 0);
    return tokens * bytesPerToken(this.#io.pasts);
  }

  cacheBytesFor(lengths: readonly number[]): number {
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    // What a run returns is made while what it was given is still held.
    return 2 * tokens * bytesPerToken(this.#io.pasts);
  }

  open(): RefedSequence {
    const empty = this.#io.pasts.map(({ name, type, emptyShape }) => {
      const none = type === "float16" ? new Float16Array() : new Float32Array();
      return [name, cacheTensor(none, emptyShape)] as const;
    });
    const sequence = { past: Object.fromEntries(empty), length: 0 };
    this.#open.add(sequence);
    return sequence;
  }

  close(sequence: RefedSequence): void {
    this.#open.delete(sequence);
    for (const tensor of Object.values(sequence.past)) tensor.dispose();
  }

  async prefill(sequence: RefedSequence, ids: readonly number[]): Promise<void> {
    await this.#run(sequence, ids);
  }

  async decode(turns: readonly Turn<RefedSequence>[]): Promise<Float32Array[]> {
    const rows: Float32Array[] = [];
    for (const { sequence, id } of turns) {
      const results = await this.#run(sequence, [id]);
      rows.push(logitsRow(results[LOGITS] as Tensor, 0));
    }
    return rows;
  }

  async score(sequence: RefedSequence, ids: readonly number[]): Promise<Float32Array[]> {
    const results = await this.#run(sequence, ids);
    return logitsRows(results[LOGITS] as Tensor);
  }

  async #run(
    sequence: RefedSequence,
    ids: readonly number[],
  ): Promise<InferenceSession.ReturnType> {
    const { past, length } = sequence;
    const feeds = { ...past, ...this.#io.feeds([{ ids, past: length }], length) };
    // All outputs, asked for or not: with some of them in a device's memory the binding cannot leave any out.
    const results = await this.#session.run(feeds);
    sequence.past = Object.fromEntries(
      this.#io.pasts.map(({ name, output }) => [name, asInput(results[output] as Tensor)]),
    );
    // A device's memory is not collected as garbage.
    for (const tensor of Object.values(past)) tensor.dispose();
    sequence.length += ids.length;
    return results;
  }
}

function asInput(present: Tensor): Tensor {
  const isOnDevice = present.location === "gpu-buffer";
  return isOnDevice ? present : cacheTensor(present.data as CacheValues, present.dims);
}
