/**
 * A decoder whose cache is ours (kv-cache.ts): of a run only logits and new rows come back, and sequences of any length
 * share one run. Each row has its own positions and mask, so a row's logits are those it would have alone (fp32:
 * within 1e-4; int8 activations are scaled per run, which lets neighbours show).
 */
import type { InferenceSession, Tensor } from "onnxruntime-node";
import {
  bytesPerToken,
  LOGITS,
  logitsRow,
  logitsRows,
  type CacheValues,
  type Fresh,
  type GraphIo,
} from "./graph-io.ts";
import { KvCache, type Slot, type TokenRows } from "./kv-cache.ts";
import type { Decoder, Turn } from "./decoder.ts";

export class OwnedDecoder implements Decoder<Slot> {
  readonly slowBecause = null;
  readonly #session: InferenceSession;
  readonly #io: GraphIo;
  /** Cache input -> output with its new rows. */
  readonly #outputs: ReadonlyMap<string, string>;
  readonly #rowOutputs: readonly string[];
  readonly #cache: KvCache;
  readonly rows;

  /** @param session of a prepared graph */
  constructor(session: InferenceSession, io: GraphIo) {
    this.#session = session;
    this.#io = io;
    this.#outputs = new Map(io.pasts.map(({ name, output }) => [name, output]));
    // Two caches may share their rows (keys that are values), which are then fetched once.
    this.#rowOutputs = [...new Set(this.#outputs.values())];
    this.#cache = new KvCache(io.pasts);
    this.rows = {
      bytesPerToken: bytesPerToken(io.pasts),
      read: (slot: Slot, start: number, count: number) => this.#cache.read(slot, start, count),
      append: (slot: Slot, blocks: readonly TokenRows[], count: number) => {
        // At once: growing copies all slots.
        this.#cache.reserve(slot.length + blocks.length * count);
        for (const rows of blocks) {
          this.#cache.append(slot, (name) => rows.get(name)!, 0, count);
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

  open(): Slot {
    return this.#cache.open();
  }

  close(slot: Slot): void {
    this.#cache.close(slot);
  }

  async prefill(slot: Slot, ids: readonly number[]): Promise<void> {
    const results = await this.#run(slot.index, [{ ids, past: slot.length }], this.#rowOutputs);
    this.#append(slot, results, 0, ids.length);
  }

  async decode(turns: readonly Turn<Slot>[]): Promise<Float32Array[]> {
    const byIndex = new Map(turns.map(({ sequence, id }) => [sequence.index, id]));
    const first = Math.min(...byIndex.keys());
    const last = Math.max(...byIndex.keys());
    const fresh: Fresh[] = [];
    for (let index = first; index <= last; index++) {
      const id = byIndex.get(index);
      // A slot in between that takes no turn (it is being prefilled) costs an idle row, whose result is dropped.
      const past = id === undefined ? 0 : this.#cache.slots[index]!.length;
      fresh.push({ ids: [id ?? 0], past });
    }
    const results = await this.#run(first, fresh, [LOGITS, ...this.#rowOutputs]);
    return turns.map(({ sequence }) => {
      const row = sequence.index - first;
      this.#append(sequence, results, row, 1);
      return logitsRow(results[LOGITS] as Tensor, row);
    });
  }

  async score(slot: Slot, ids: readonly number[]): Promise<Float32Array[]> {
    const fresh = [{ ids, past: slot.length }];
    const results = await this.#run(slot.index, fresh, [LOGITS, ...this.#rowOutputs]);
    this.#append(slot, results, 0, ids.length);
    return logitsRows(results[LOGITS] as Tensor);
  }

  readonly rewind = (slot: Slot, count: number): void => {
    // Rows beyond the length are masked, and overwritten by the next ones.
    slot.length -= count;
  };

  #run(
    first: number,
    fresh: readonly Fresh[],
    fetches: readonly string[],
  ): Promise<InferenceSession.ReturnType> {
    const tensors = this.#cache.tensors(first, fresh.length);
    const feeds = { ...tensors, ...this.#io.feeds(fresh, this.#cache.capacity) };
    return this.#session.run(feeds, fetches);
  }

  #append(slot: Slot, results: InferenceSession.ReturnType, row: number, count: number): void {
    const rows = (name: string) =>
      (results[this.#outputs.get(name)!] as Tensor).data as CacheValues;
    this.#cache.append(slot, rows, row, count);
  }
}
