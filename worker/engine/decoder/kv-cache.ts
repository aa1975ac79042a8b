/**
 * The KV cache of one model for sequences of about the same length (grouped-cache.ts), in JS memory. The graph takes it as an input
 * without a copy, and a run returns only the keys and values of the new tokens. It is a rectangle, slots x token capacity, without
 * paging: each sequence has a slot, slots have no gaps, and any range of slots is a batch. Both sides of the rectangle grow in steps,
 * so most runs write a few rows and allocate nothing. Unused entries hold old values and must be masked.
 *
 * Graphs with Concat place the new tokens behind the whole capacity. For a graph that counts entries (attention windows, ALiBi)
 * the tokens of each sequence have to end there (alignment "end"). Sequences that grow together need no copy for that: the rows of
 * all heads follow each other in memory, so a tensor that begins some entries later has all rows shifted by as many, and the entries
 * in front of a row's tokens are unused ones. The first row needs a spare row in front of it. Sequences whose ends differ (new ones,
 * or after a rewind) are moved to the same column, which copies all their tokens; so other graphs are not aligned in this way.
 */
import type { Tensor } from "../onnxruntime/onnxruntime.ts";
import { roundUpSlots, type TokenBytes } from "./cache-groups.ts";
import {
  bytesPerToken,
  cacheTensor,
  type Alignment,
  type CacheValues,
  type PastInput,
} from "./graph-io.ts";
import { bytesOf, clear, type FreeArrays } from "./free-arrays.ts";
import {
  allocateValues,
  copyAllTokens,
  copyTokens,
  rowsOf,
  type TokenPlace,
} from "./token-places.ts";

/** Keys and values of some tokens of one sequence, by `past_key_values.*` input: [heads, tokens, head size]. */
export type KvRows = ReadonlyMap<string, CacheValues>;

/** Token capacity grows in multiples of this. Growing copies the cache; with a larger step a run reads more masked entries. */
const BUCKET_TOKENS = 64;

/** The place of one sequence. It changes while the cache is used. */
export interface Slot {
  cache: KvCache;
  index: number;
  /** Column of the first token in the slot's rows. */
  start: number;
  /** Tokens in the cache. */
  length: number;
}

export class KvCache {
  readonly tokenBytes: TokenBytes;
  readonly #pastInputs: readonly PastInput[];
  readonly #alignment: Alignment;
  readonly #widthMax: number;
  readonly #freeArrays: FreeArrays | null;
  readonly #slots: Slot[] = [];
  #slotCapacity = 0;
  #tokenCapacity: number;
  /** By input: [slot capacity, heads, token capacity, head size], behind one spare row if tokens are aligned at their ends. */
  #values: CacheValues[];
  #bytes: number;

  /**
   * @param pastInputs inputs [1, heads, tokens, head size], see `hasStandardLayout`
   * @param widthMax entries and new tokens that a run may have together; with more, the entries are copied without unused ones.
   * Graphs may have tables for masks and positions that are as long as the context.
   * @param freeArrays shared by the caches of one model
   */
  constructor(
    pastInputs: readonly PastInput[],
    alignment: Alignment = "end",
    widthMax: number | null = null,
    freeArrays: FreeArrays | null = null,
  ) {
    this.#pastInputs = pastInputs;
    this.#alignment = alignment;
    this.#widthMax = widthMax ?? Infinity;
    this.#freeArrays = freeArrays;
    const oneHead = pastInputs.map((past) => ({
      ...past,
      emptyShape: past.emptyShape.with(1, 1),
    }));
    this.tokenBytes = {
      row: bytesPerToken(pastInputs),
      spare: this.#spareRows * bytesPerToken(oneHead),
    };
    this.#tokenCapacity = this.roundUpTokens(0);
    this.#values = this.#allocate();
    this.#bytes = bytesOf(this.#values);
  }

  /** The open slots, in order of their index. */
  get slots(): readonly Slot[] {
    return this.#slots;
  }

  /** Tokens for which each slot has room. */
  get tokenCapacity(): number {
    return this.#tokenCapacity;
  }

  get slotCapacity(): number {
    return this.#slotCapacity;
  }

  /**
   * The token capacity of a cache for this many. At least one: graphs that reshape their cache read a dimension of 0 as "unchanged".
   */
  roundUpTokens(tokens: number): number {
    const rounded = Math.max(1, Math.ceil(tokens / BUCKET_TOKENS)) * BUCKET_TOKENS;
    return Math.max(1, tokens, Math.min(rounded, this.#widthMax - 1));
  }

  /** Bytes that are allocated now, which `#copies` are not part of. */
  get bytes(): number {
    return this.#bytes;
  }

  open(): Slot {
    const slot = { cache: this, index: this.#slots.length, start: 0, length: 0 };
    if (slot.index === this.#slotCapacity)
      this.#resize(roundUpSlots(slot.index + 1), this.#tokenCapacity);
    this.#slots.push(slot);
    return slot;
  }

  /**
   * Frees a slot; the last slot moves into its place. Unused slots hold zeros (free-arrays.ts says why). The values of the last slot
   * are not cleared: its cache is freed, and FreeArrays clears memory before it is used again.
   */
  close(slot: Slot): void {
    const last = this.#slots.pop()!;
    if (this.#slots.length === 0) return;
    this.#clear(slot.index);
    if (last === slot) return;
    this.#moveTo(last, { ...last, index: slot.index });
    this.#clear(this.#slots.length);
    this.#slots[slot.index] = last;
  }

  /** Moves a slot of another cache here, which keeps its capacity. */
  adopt(slot: Slot): void {
    const { cache: source, length } = slot;
    this.reserve(length);
    const place = this.open();
    const [first] = this.#slots;
    if (this.#alignment === "end" && first !== place) {
      // Where the tokens of the others end, if they fit there.
      const start = Math.max(0, first!.start + first!.length - length);
      place.start = Math.min(start, this.#tokenCapacity - length);
    }
    const from = { values: source.#values, place: source.#tokensOf(slot) };
    copyAllTokens(this.#pastInputs, length, from, {
      values: this.#values,
      place: this.#tokensOf(place),
    });
    source.close(slot);
    this.#slots[place.index] = Object.assign(slot, place, { length });
  }

  #clear(index: number): void {
    for (const [i, { emptyShape }] of this.#pastInputs.entries()) {
      const size = this.#tokenCapacity * emptyShape[3]!;
      const first = (this.#spareRows + index * emptyShape[1]!) * size;
      clear(this.#values[i]!.subarray(first, first + emptyShape[1]! * size));
    }
  }

  /** Frees capacity that the open slots do not need. */
  shrink(): void {
    const slots = Math.min(this.#slotCapacity, roundUpSlots(this.#slots.length));
    const tokens = this.roundUpTokens(Math.max(0, ...this.#slots.map(({ length }) => length)));
    if (slots < this.#slotCapacity || tokens < this.#tokenCapacity) this.#resize(slots, tokens);
  }

  /**
   * Inputs of the graph by name, for `count` slots from `first` on, each [count, heads, width, head size]: views, and the
   * width is the token capacity, except near `widthMax`.
   * @param shown the slots whose tokens are used; those of the others may be anywhere in their rows
   * @param newTokens of each row, padding included; there has to be room for those that are appended after the run (`reserve`)
   */
  tensors(
    first: number,
    count: number,
    { shown, newTokens }: { readonly shown: readonly Slot[]; readonly newTokens: number },
  ): { tensors: Record<string, Tensor>; width: number } {
    const longest = Math.max(...shown.map(({ length }) => length));
    if (this.#tokenCapacity + newTokens > this.#widthMax) {
      return this.#copies(first, count, shown, Math.max(1, longest));
    }
    const shift = this.#alignment === "end" ? this.#alignEnds(shown, newTokens) : 0;
    const tensors: Record<string, Tensor> = {};
    for (const [i, { name, emptyShape }] of this.#pastInputs.entries()) {
      const [, heads, , size] = emptyShape as [number, number, number, number];
      const start = first * heads * this.#tokenCapacity + shift;
      const end = start + count * heads * this.#tokenCapacity;
      const view = this.#values[i]!.subarray(start * size, end * size);
      tensors[name] = cacheTensor(view, [count, heads, this.#tokenCapacity, size]);
    }
    return { tensors, width: this.#tokenCapacity };
  }

  /**
   * The tensors as copies of `width` tokens, for one run. They take at most as much memory again as the shown slots, because a
   * new array takes memory only where it is written. No limit counts that: otherwise a job as long as the context would need twice
   * its cache.
   */
  #copies(
    first: number,
    count: number,
    shown: readonly Slot[],
    width: number,
  ): { tensors: Record<string, Tensor>; width: number } {
    const tensors = this.#pastInputs.map(({ name, type, emptyShape }, i) => {
      const [, heads, , size] = emptyShape as [number, number, number, number];
      const values = allocateValues(type, count * heads * width * size, this.#isShared);
      for (const slot of shown) {
        const start = this.#alignment === "end" ? width - slot.length : 0;
        copyTokens(this.#pastInputs[i]!, slot.length, {
          from: { values: this.#values[i]!, ...this.#tokensOf(slot) },
          to: { values, ...rowsOf(slot.index - first, width), token: start },
        });
      }
      return [name, cacheTensor(values, [count, heads, width, size])] as const;
    });
    return { tensors: Object.fromEntries(tensors), width };
  }

  /** Moves as few tokens as possible so that these slots end at the same column, with room behind it. Returns the column. */
  #alignEnds(slots: readonly Slot[], room: number): number {
    const longest = Math.max(...slots.map(({ length }) => length));
    /** Column -> tokens that end there. */
    const ends = new Map<number, number>([[longest, 0]]);
    for (const { start, length } of slots) {
      const end = start + length;
      const isPossible = end >= longest && end + room <= this.#tokenCapacity;
      if (isPossible) ends.set(end, (ends.get(end) ?? 0) + length);
    }
    const [end] = [...ends].reduce((best, other) => (other[1] > best[1] ? other : best));
    for (const slot of slots) this.#moveTo(slot, { ...slot, start: end - slot.length });
    return end;
  }

  /** Moves a slot's tokens to another place in the cache. */
  #moveTo(slot: Slot, place: Slot): void {
    if (place.index === slot.index && place.start === slot.start) return;
    const values = this.#values;
    const [from, to] = [slot, place].map((at) => ({ values, place: this.#tokensOf(at) }));
    copyAllTokens(this.#pastInputs, slot.length, from!, to!);
    slot.index = place.index;
    slot.start = place.start;
  }

  /** Makes room for this many tokens in each slot. */
  reserve(tokens: number): void {
    if (tokens > this.#tokenCapacity) this.#resize(this.#slotCapacity, this.roundUpTokens(tokens));
  }

  /** Changes the capacity to exactly this, which its slots must fit. @param isMoved whether it takes new memory in any case */
  fit(slots: number, tokens: number, isMoved = false): void {
    const isSame = slots === this.#slotCapacity && tokens === this.#tokenCapacity;
    if (isMoved || !isSame) this.#resize(slots, tokens);
  }

  /**
   * Appends the keys and values of new tokens to one slot.
   * @param newValues values for an input, [batch, heads, width, head size]
   * @param from the place of the slot's tokens in them
   */
  append(
    slot: Slot,
    newValues: (name: string) => CacheValues,
    count: number,
    from: TokenPlace = rowsOf(0, count),
  ): void {
    const length = slot.length + count;
    this.reserve(length);
    if (slot.start + length > this.#tokenCapacity) this.#moveTo(slot, { ...slot, start: 0 });
    const end = { ...slot, start: slot.start + slot.length };
    for (const [i, { name }] of this.#pastInputs.entries()) {
      copyTokens(this.#pastInputs[i]!, count, {
        from: { values: newValues(name), ...from },
        to: { values: this.#values[i]!, ...this.#tokensOf(end) },
      });
    }
    slot.length = length;
  }

  /** Copies the keys and values of `count` tokens of a slot, from token `start` on. */
  read(slot: Slot, start: number, count: number): KvRows {
    const place = this.#tokensOf({ ...slot, start: slot.start + start });
    const copy = (past: PastInput, i: number) => {
      const { name, type, emptyShape } = past;
      const values = allocateValues(type, emptyShape[1]! * count * emptyShape[3]!);
      const from = { values: this.#values[i]!, ...place };
      copyTokens(past, count, { from, to: { values, ...rowsOf(0, count) } });
      return [name, values] as const;
    };
    return new Map(this.#pastInputs.map(copy));
  }

  /** Gives the memory away: the cache has no slots and is not used again. */
  free(): void {
    this.#resize(0, this.roundUpTokens(0));
  }

  #resize(slotCapacity: number, tokenCapacity: number): void {
    const before = this.#values;
    const places = this.#slots.map((slot) => this.#tokensOf(slot));
    this.#slotCapacity = slotCapacity;
    this.#tokenCapacity = tokenCapacity;
    this.#values = this.#allocate();
    this.#bytes = bytesOf(this.#values);
    const longest = Math.max(...this.#slots.map(({ length }) => length));
    for (const [index, slot] of this.#slots.entries()) {
      slot.start = this.#alignment === "end" ? longest - slot.length : 0;
      const from = { values: before, place: places[index]! };
      copyAllTokens(this.#pastInputs, slot.length, from, {
        values: this.#values,
        place: this.#tokensOf(slot),
      });
    }
    this.#freeArrays?.give(before);
  }

  #allocate(): CacheValues[] {
    const sizes = this.#pastInputs.map(({ emptyShape }) =>
      this.#valueCount(emptyShape, this.#slotCapacity, this.#tokenCapacity),
    );
    const values = this.#freeArrays?.take(sizes);
    const allocate = (size: number, i: number) =>
      allocateValues(this.#pastInputs[i]!.type, size, this.#isShared);
    return values ?? sizes.map(allocate);
  }

  #valueCount(emptyShape: readonly number[], slots: number, tokens: number): number {
    const rows = slots === 0 ? 0 : this.#spareRows + slots * emptyShape[1]!;
    return rows * tokens * emptyShape[3]!;
  }

  get #isShared(): boolean {
    return this.#freeArrays?.isShared ?? false;
  }

  get #spareRows(): number {
    return this.#alignment === "end" ? 1 : 0;
  }

  #tokensOf({ index, start }: Slot): TokenPlace {
    return { spareRows: this.#spareRows, slot: index, capacity: this.#tokenCapacity, token: start };
  }
}
