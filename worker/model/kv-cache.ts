/**
 * The KV cache of one model for all its running sequences, owned by the engine. It goes into the graph as an input that
 * is never copied, and of a run only the new rows come back. Sequences lie side by side in slots without a gap, so any
 * run of slots is a batch. Slots and tokens grow by buckets, so most steps write a few rows and allocate nothing;
 * what lies beyond a sequence's length must be masked.
 */
import type { Tensor } from "onnxruntime-node";
import { bytesPerToken, cacheTensor, type CacheValues, type PastInput } from "./graph-io.ts";

/** Some tokens' rows of one sequence, by input: [heads, tokens, head size]. */
export type TokenRows = ReadonlyMap<string, CacheValues>;

/** Tokens by which slots grow. Growing copies the cache; a larger bucket is more masked rows to read past. */
const BUCKET_TOKENS = 64;

/** One sequence's place. Index and length change as the cache is used. */
export interface Slot {
  index: number;
  /** Tokens in the cache. */
  length: number;
}

/** Slots are doubled, because each growth copies all of them. */
const slotsFor = (count: number) => (count === 0 ? 0 : 2 ** Math.ceil(Math.log2(count)));
/** At least a bucket: graphs that reshape their cache read a dimension of 0 as "as before". */
const rowsFor = (tokens: number) => Math.max(1, Math.ceil(tokens / BUCKET_TOKENS)) * BUCKET_TOKENS;

/** Whether a cache input has its tokens on the third of four axes, one row each. */
export function hasRows({ emptyShape }: PastInput): boolean {
  return emptyShape.length === 4 && emptyShape.indexOf(0) === 2;
}

export class KvCache {
  readonly #pasts: readonly PastInput[];
  readonly #slots: Slot[] = [];
  #slotCapacity = 0;
  #capacity = rowsFor(0);
  /** By input: [slot capacity, heads, capacity, head size]. */
  #values: CacheValues[];

  /** @param pasts inputs of shape [1, heads, tokens, head size]; see `hasRows` */
  constructor(pasts: readonly PastInput[]) {
    this.#pasts = pasts;
    this.#values = this.#allocate();
  }

  /** The open slots, in order of their index. */
  get slots(): readonly Slot[] {
    return this.#slots;
  }

  /** Tokens that each slot has room for. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Bytes held now. */
  get bytes(): number {
    return this.#values.reduce((sum, values) => sum + values.byteLength, 0);
  }

  /** Bytes held when sequences of these lengths are all there is. */
  bytesFor(lengths: readonly number[]): number {
    const tokens = slotsFor(lengths.length) * rowsFor(Math.max(0, ...lengths));
    return tokens * bytesPerToken(this.#pasts);
  }

  open(): Slot {
    const slot = { index: this.#slots.length, length: 0 };
    if (slot.index === this.#slotCapacity) this.#resize(slotsFor(slot.index + 1), this.#capacity);
    this.#slots.push(slot);
    return slot;
  }

  /** Gives a slot back; the last one moves into its place. The cache keeps no more than `bytesFor` promises. */
  close(slot: Slot): void {
    const last = this.#slots.pop()!;
    if (last !== slot) {
      for (const values of this.#values) {
        const size = values.length / this.#slotCapacity;
        values.copyWithin(slot.index * size, last.index * size, (last.index + 1) * size);
      }
      last.index = slot.index;
      this.#slots[slot.index] = last;
    }
    const slots = slotsFor(this.#slots.length);
    const rows = rowsFor(Math.max(0, ...this.#slots.map(({ length }) => length)));
    if (slots < this.#slotCapacity || rows < this.#capacity) this.#resize(slots, rows);
  }

  /** The graph's inputs by name, for `count` slots from `first`: views, each [count, heads, capacity, head size]. */
  tensors(first: number, count: number): Record<string, Tensor> {
    const tensors: Record<string, Tensor> = {};
    for (const [i, { name, emptyShape }] of this.#pasts.entries()) {
      const values = this.#values[i]!;
      const size = this.#slotCapacity === 0 ? 0 : values.length / this.#slotCapacity;
      const view = values.subarray(first * size, (first + count) * size);
      const dims = [count, emptyShape[1]!, this.#capacity, emptyShape[3]!];
      tensors[name] = cacheTensor(view, dims);
    }
    return tensors;
  }

  /** Makes room for so many tokens of each slot. */
  reserve(tokens: number): void {
    if (tokens > this.#capacity) this.#resize(this.#slotCapacity, rowsFor(tokens));
  }

  /**
   * Appends the rows of new tokens to one slot.
   * @param rows new rows of an input, [rows in the run, heads, count, head size]
   * @param row which of the rows in the run is the slot's
   */
  append(slot: Slot, rows: (name: string) => CacheValues, row: number, count: number): void {
    const length = slot.length + count;
    this.reserve(length);
    for (const [i, { name, emptyShape }] of this.#pasts.entries()) {
      copyRows(emptyShape, count, {
        from: rows(name),
        fromSlot: row,
        fromRows: count,
        start: 0,
        to: this.#values[i]!,
        toSlot: slot.index,
        toRows: this.#capacity,
        at: slot.length,
      });
    }
    slot.length = length;
  }

  /** Copies `count` of a slot's tokens from `start` on. */
  read(slot: Slot, start: number, count: number): TokenRows {
    return new Map(
      this.#pasts.map(({ name, type, emptyShape }, i) => {
        const to = allocate(type, emptyShape[1]! * count * emptyShape[3]!);
        copyRows(emptyShape, count, {
          from: this.#values[i]!,
          fromSlot: slot.index,
          fromRows: this.#capacity,
          start,
          to,
          toSlot: 0,
          toRows: count,
          at: 0,
        });
        return [name, to];
      }),
    );
  }

  #resize(slotCapacity: number, capacity: number): void {
    const before = this.#values;
    const capacityBefore = this.#capacity;
    this.#slotCapacity = slotCapacity;
    this.#capacity = capacity;
    this.#values = this.#allocate();
    for (const slot of this.#slots) {
      for (const [i, { emptyShape }] of this.#pasts.entries()) {
        copyRows(emptyShape, slot.length, {
          from: before[i]!,
          fromSlot: slot.index,
          fromRows: capacityBefore,
          start: 0,
          to: this.#values[i]!,
          toSlot: slot.index,
          toRows: capacity,
          at: 0,
        });
      }
    }
  }

  #allocate(): CacheValues[] {
    return this.#pasts.map(({ type, emptyShape }) => {
      const size = this.#slotCapacity * emptyShape[1]! * this.#capacity * emptyShape[3]!;
      return allocate(type, size);
    });
  }
}

function allocate(type: PastInput["type"], size: number): CacheValues {
  return type === "float16" ? new Float16Array(size) : new Float32Array(size);
}

/** Copies `count` token rows of each head of one slot, from row `start`, to row `at` of a slot with other room. */
function copyRows(
  emptyShape: readonly number[],
  count: number,
  copy: {
    from: CacheValues;
    fromSlot: number;
    fromRows: number;
    start: number;
    to: CacheValues;
    toSlot: number;
    toRows: number;
    at: number;
  },
): void {
  const [, heads, , size] = emptyShape as [number, number, number, number];
  const { from, fromSlot, fromRows, start, to, toSlot, toRows, at } = copy;
  for (let head = 0; head < heads; head++) {
    const first = ((fromSlot * heads + head) * fromRows + start) * size;
    const rows = from.subarray(first, first + count * size);
    to.set(rows, ((toSlot * heads + head) * toRows + at) * size);
  }
}
