/**
 * The KV cache of one model for all its open sequences, in JS memory. The graph takes it as an input without a copy, and a
 * run returns only the keys and values of the new tokens. It is a rectangle, slots x token capacity, without paging: each
 * sequence has a slot, slots have no gaps, and any range of slots is a batch. Both sides of the rectangle grow in steps, so
 * most runs write a few rows and allocate nothing. Entries beyond a sequence's length hold old values and must be masked.
 */
import type { Tensor } from "../onnxruntime/onnxruntime.ts";
import { bytesPerToken, cacheTensor, type CacheValues, type PastInput } from "./graph-io.ts";

/** Keys and values of some tokens of one sequence, by `past_key_values.*` input: [heads, tokens, head size]. */
export type KvRows = ReadonlyMap<string, CacheValues>;

/** Token capacity grows in multiples of this. Growing copies the cache; with a larger step a run reads more masked entries. */
const BUCKET_TOKENS = 64;

/** The place of one sequence. Index and length change while the cache is used. */
export interface Slot {
  index: number;
  /** Tokens in the cache. */
  length: number;
}

/** Slot capacity doubles, because each growth copies all slots. */
const roundUpSlots = (count: number) => (count === 0 ? 0 : 2 ** Math.ceil(Math.log2(count)));
/** At least one step: graphs that reshape their cache read a dimension of 0 as "unchanged". */
const roundUpTokens = (tokens: number) =>
  Math.max(1, Math.ceil(tokens / BUCKET_TOKENS)) * BUCKET_TOKENS;

/** Whether a cache input is [batch, heads, tokens, head size]. */
export function hasStandardLayout({ emptyShape }: PastInput): boolean {
  return emptyShape.length === 4 && emptyShape.indexOf(0) === 2;
}

export class KvCache {
  readonly #pastInputs: readonly PastInput[];
  readonly #slots: Slot[] = [];
  #slotCapacity = 0;
  #tokenCapacity = roundUpTokens(0);
  /** By input: [slot capacity, heads, token capacity, head size]. */
  #values: CacheValues[];

  /** @param pastInputs inputs [1, heads, tokens, head size], see `hasStandardLayout` */
  constructor(pastInputs: readonly PastInput[]) {
    this.#pastInputs = pastInputs;
    this.#values = this.#allocate();
  }

  /** The open slots, in order of their index. */
  get slots(): readonly Slot[] {
    return this.#slots;
  }

  /** Tokens for which each slot has room. */
  get tokenCapacity(): number {
    return this.#tokenCapacity;
  }

  /** Bytes that are allocated now. */
  get bytes(): number {
    return this.#values.reduce((sum, values) => sum + values.byteLength, 0);
  }

  /** Bytes that are allocated when exactly these sequences are open; lengths in tokens. */
  bytesFor(lengths: readonly number[]): number {
    const tokens = roundUpSlots(lengths.length) * roundUpTokens(Math.max(0, ...lengths));
    return tokens * bytesPerToken(this.#pastInputs);
  }

  open(): Slot {
    const slot = { index: this.#slots.length, length: 0 };
    if (slot.index === this.#slotCapacity)
      this.#resize(roundUpSlots(slot.index + 1), this.#tokenCapacity);
    this.#slots.push(slot);
    return slot;
  }

  /** Frees a slot: the last slot moves into its place. The cache then has no more bytes than `bytesFor` returns. */
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
    const slots = roundUpSlots(this.#slots.length);
    const tokens = roundUpTokens(Math.max(0, ...this.#slots.map(({ length }) => length)));
    if (slots < this.#slotCapacity || tokens < this.#tokenCapacity) this.#resize(slots, tokens);
  }

  /** Inputs of the graph by name, for `count` slots from `first` on: views, each [count, heads, token capacity, head size]. */
  tensors(first: number, count: number): Record<string, Tensor> {
    const tensors: Record<string, Tensor> = {};
    for (const [i, { name, emptyShape }] of this.#pastInputs.entries()) {
      const values = this.#values[i]!;
      const size = this.#slotCapacity === 0 ? 0 : values.length / this.#slotCapacity;
      const view = values.subarray(first * size, (first + count) * size);
      const dims = [count, emptyShape[1]!, this.#tokenCapacity, emptyShape[3]!];
      tensors[name] = cacheTensor(view, dims);
    }
    return tensors;
  }

  /** Makes room for this many tokens in each slot. */
  reserve(tokens: number): void {
    if (tokens > this.#tokenCapacity) this.#resize(this.#slotCapacity, roundUpTokens(tokens));
  }

  /**
   * Appends the keys and values of new tokens to one slot.
   * @param newValues values for an input, [batch, heads, count, head size]
   * @param row index of the slot's sequence in the batch
   */
  append(slot: Slot, newValues: (name: string) => CacheValues, row: number, count: number): void {
    const length = slot.length + count;
    this.reserve(length);
    for (const [i, { name, emptyShape }] of this.#pastInputs.entries()) {
      copyTokens(emptyShape, count, {
        from: newValues(name),
        fromSlot: row,
        fromCapacity: count,
        fromToken: 0,
        to: this.#values[i]!,
        toSlot: slot.index,
        toCapacity: this.#tokenCapacity,
        toToken: slot.length,
      });
    }
    slot.length = length;
  }

  /** Copies the keys and values of `count` tokens of a slot, from token `start` on. */
  read(slot: Slot, start: number, count: number): KvRows {
    return new Map(
      this.#pastInputs.map(({ name, type, emptyShape }, i) => {
        const to = allocate(type, emptyShape[1]! * count * emptyShape[3]!);
        copyTokens(emptyShape, count, {
          from: this.#values[i]!,
          fromSlot: slot.index,
          fromCapacity: this.#tokenCapacity,
          fromToken: start,
          to,
          toSlot: 0,
          toCapacity: count,
          toToken: 0,
        });
        return [name, to];
      }),
    );
  }

  #resize(slotCapacity: number, tokenCapacity: number): void {
    const before = this.#values;
    const capacityBefore = this.#tokenCapacity;
    this.#slotCapacity = slotCapacity;
    this.#tokenCapacity = tokenCapacity;
    this.#values = this.#allocate();
    for (const slot of this.#slots) {
      for (const [i, { emptyShape }] of this.#pastInputs.entries()) {
        copyTokens(emptyShape, slot.length, {
          from: before[i]!,
          fromSlot: slot.index,
          fromCapacity: capacityBefore,
          fromToken: 0,
          to: this.#values[i]!,
          toSlot: slot.index,
          toCapacity: tokenCapacity,
          toToken: 0,
        });
      }
    }
  }

  #allocate(): CacheValues[] {
    return this.#pastInputs.map(({ type, emptyShape }) => {
      const size = this.#slotCapacity * emptyShape[1]! * this.#tokenCapacity * emptyShape[3]!;
      return allocate(type, size);
    });
  }
}

function allocate(type: PastInput["type"], size: number): CacheValues {
  return type === "float16" ? new Float16Array(size) : new Float32Array(size);
}

/** Copies `count` tokens of each head from one slot to another; the two slots may have different token capacities. */
function copyTokens(
  emptyShape: readonly number[],
  count: number,
  copy: {
    from: CacheValues;
    fromSlot: number;
    fromCapacity: number;
    fromToken: number;
    to: CacheValues;
    toSlot: number;
    toCapacity: number;
    toToken: number;
  },
): void {
  const [, heads, , size] = emptyShape as [number, number, number, number];
  const { from, fromSlot, fromCapacity, fromToken, to, toSlot, toCapacity, toToken } = copy;
  for (let head = 0; head < heads; head++) {
    const first = ((fromSlot * heads + head) * fromCapacity + fromToken) * size;
    const rows = from.subarray(first, first + count * size);
    to.set(rows, ((toSlot * heads + head) * toCapacity + toToken) * size);
  }
}
