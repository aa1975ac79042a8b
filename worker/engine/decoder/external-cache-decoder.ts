/**
 * A decoder that holds the KV cache in JS memory (kv-cache.ts). A run returns only logits and the keys and values of the new
 * tokens, and sequences of different lengths share one run. Each row of a batch has its own positions and mask, so its
 * logits are those of a run with this sequence alone (fp32: within 1e-4; int8: exactly, see ../graph/exact-attention.ts). It
 * needs a prepared graph (../graph).
 */
import type { InferenceSession, Tensor } from "../onnxruntime/onnxruntime.ts";
import {
  bytesPerToken,
  LOGITS,
  logitsRow,
  logitsRows,
  type CacheValues,
  type GraphIo,
  type RunRow,
} from "./graph-io.ts";
import { KvCache, type KvRows, type Slot } from "./kv-cache.ts";
import type { DecodeInput, Decoder } from "./decoder.ts";

export class ExternalCacheDecoder implements Decoder<Slot> {
  readonly fallbackReason = null;
  readonly hasExactRows: boolean;
  readonly kvRows;
  readonly #session: InferenceSession;
  readonly #io: GraphIo;
  /** `past_key_values.*` input -> output with the new tokens' keys or values. */
  readonly #newKvOutputs: ReadonlyMap<string, string>;
  readonly #newKvOutputNames: readonly string[];
  readonly #cache: KvCache;
  /** The adapters of open sequences that use one. */
  readonly #adapters = new Map<Slot, number>();

  /**
   * @param session of a prepared graph
   * @param contextTokens null if it is not known
   */
  constructor(
    session: InferenceSession,
    io: GraphIo,
    { hasExactRows, contextTokens }: { hasExactRows: boolean; contextTokens: number | null },
  ) {
    this.hasExactRows = hasExactRows;
    this.#session = session;
    this.#io = io;
    this.#newKvOutputs = new Map(io.pastInputs.map(({ name, output }) => [name, output]));
    // Two inputs may share an output (keys that are also the values); it is then fetched once.
    this.#newKvOutputNames = [...new Set(this.#newKvOutputs.values())];
    this.#cache = new KvCache(io.pastInputs, io.alignment, contextTokens);
    this.kvRows = {
      bytesPerToken: bytesPerToken(io.pastInputs),
      read: (slot: Slot, start: number, count: number) => this.#cache.read(slot, start, count),
      append: (slot: Slot, blocks: readonly KvRows[], count: number) => {
        // Reserved once for all blocks, because growing copies all slots.
        this.#cache.reserve(slot.length + blocks.length * count);
        for (const block of blocks) {
          this.#cache.append(slot, (name) => block.get(name)!, 0, count);
        }
      },
    };
  }

  get logitsWidth(): number | null {
    return this.#io.logitsWidth;
  }

  get cacheBytes(): number {
    return this.#cache.bytes;
  }

  cacheBytesFor(lengths: readonly number[]): number {
    return this.#cache.bytesFor(lengths);
  }

  reserve(tokens: number): void {
    this.#cache.reserve(tokens);
  }

  /** @param adapter index of one of the graph's adapters; absent for none */
  open(adapter?: number): Slot {
    const slot = this.#cache.open();
    if (adapter !== undefined) this.#adapters.set(slot, adapter);
    return slot;
  }

  close(slot: Slot): void {
    this.#adapters.delete(slot);
    this.#cache.close(slot);
  }

  async prefill(slot: Slot, ids: readonly number[]): Promise<void> {
    const results = await this.#run([slot], [this.#row(slot, ids)], this.#newKvOutputNames);
    this.#append(slot, results, 0, ids.length);
  }

  async decode(inputs: readonly DecodeInput<Slot>[]): Promise<Float32Array[]> {
    const byIndex = new Map(inputs.map(({ sequence, id }) => [sequence.index, id]));
    const first = Math.min(...byIndex.keys());
    const last = Math.max(...byIndex.keys());
    const rows: RunRow[] = [];
    for (let index = first; index <= last; index++) {
      const id = byIndex.get(index);
      // A batch is a range of slots. A slot in the range without an input (it is being prefilled) costs an idle row,
      // whose result is dropped.
      rows.push(
        id === undefined ? { ids: [0], pastTokens: 0 } : this.#row(this.#cache.slots[index]!, [id]),
      );
    }
    const slots = inputs.map(({ sequence }) => sequence);
    const results = await this.#run(slots, rows, [LOGITS, ...this.#newKvOutputNames]);
    return inputs.map(({ sequence }) => {
      const row = sequence.index - first;
      this.#append(sequence, results, row, 1);
      return logitsRow(results[LOGITS] as Tensor, row);
    });
  }

  async score(slot: Slot, ids: readonly number[]): Promise<Float32Array[]> {
    const outputs = [LOGITS, ...this.#newKvOutputNames];
    const results = await this.#run([slot], [this.#row(slot, ids)], outputs);
    this.#append(slot, results, 0, ids.length);
    return logitsRows(results[LOGITS] as Tensor);
  }

  readonly rewind = (slot: Slot, count: number): void => {
    // Cache entries beyond the length are masked, and overwritten by the next tokens.
    slot.length -= count;
  };

  #row(slot: Slot, ids: readonly number[]): RunRow {
    return { ids, pastTokens: slot.length, adapter: this.#adapters.get(slot) };
  }

  /** @param rows those of neighbouring slots, from the first of `slots` to the last */
  #run(
    slots: readonly Slot[],
    rows: readonly RunRow[],
    fetches: readonly string[],
  ): Promise<InferenceSession.ReturnType> {
    const first = Math.min(...slots.map(({ index }) => index));
    const newTokens = rows[0]!.ids.length;
    const shown = { shown: slots, newTokens };
    const { tensors, width } = this.#cache.tensors(first, rows.length, shown);
    const feeds = { ...tensors, ...this.#io.feeds(rows, width) };
    return this.#session.run(feeds, fetches);
  }

  #append(slot: Slot, results: InferenceSession.ReturnType, row: number, count: number): void {
    const newValues = (name: string) =>
      (results[this.#newKvOutputs.get(name)!] as Tensor).data as CacheValues;
    this.#cache.append(slot, newValues, row, count);
  }
}
