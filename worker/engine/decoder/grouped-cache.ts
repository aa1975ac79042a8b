/**
 * The KV caches of one model for all its open sequences: rectangles (kv-cache.ts) of rows that run together, of which
 * cache-groups.ts decides. A new sequence has a rectangle of its own until it decodes.
 *
 * A change of the groups copies rows. So it is made when the runs have read as many bytes more than those of the best groups would have
 * as the copy takes. At worst, these reads and the copies together take twice as long as the better of both.
 *
 * Rectangles hold more than the tokens of their sequences. `limit` bounds that: sequences are admitted for the smallest rectangles
 * (`bytesFor`), and as long as others have not grown to their limits, what is left is used for fewer runs.
 */
import {
  bytesOfGroups,
  divideRows,
  rectangleBytes,
  roundUpSlots,
  type TokenBytes,
} from "./cache-groups.ts";
import { FreeArrays } from "./free-arrays.ts";
import type { Alignment, PastInput } from "./graph-io.ts";
import { KvCache, type Slot } from "./kv-cache.ts";

/** A copied byte takes as long as this many bytes of a run: it is read and written, mostly into new memory. */
const COPY_PRICE = 4;

/** A rectangle of which at most this part is needed shrinks when a sequence leaves it. */
const NEEDED_MIN = 0.25;
/** Each time that free memory is trimmed, at least twice a step, it may have this part of what it might have before. */
const FREE_DECAY = 0.999;

/** The best groups of sequences that decode together. */
interface Division {
  readonly slots: readonly Slot[];
  /** Of each sequence's rectangle if it is alone. */
  readonly tokens: readonly number[];
  readonly bytesMax: number;
  readonly groups: readonly (readonly Slot[])[];
  /** Bytes that their runs read, with those that a run costs. */
  readonly bytes: number;
}

export class GroupedCache {
  readonly #create: () => KvCache;
  readonly #caches = new Set<KvCache>();
  readonly #freeArrays = new FreeArrays();
  readonly #passBytes: number;
  readonly #tokenBytes: TokenBytes;
  readonly #roundUp: (tokens: number) => number;
  #bytesMax = Infinity;
  /** The most that the rectangles had lately. */
  #recentBytes = 0;
  /** Tokens for which each rectangle has room at least. */
  #tokensMin = 0;
  /** Bytes that runs have read since the last change, beyond those of the best groups. */
  #excessBytes = 0;
  #lastDivision: Division | null = null;

  /**
   * @param passBytes bytes that one more run costs
   * @param widthMax see KvCache
   */
  constructor(
    pastInputs: readonly PastInput[],
    alignment: Alignment,
    { passBytes, widthMax }: { readonly passBytes: number; readonly widthMax: number | null },
  ) {
    this.#create = () => new KvCache(pastInputs, alignment, widthMax, this.#freeArrays);
    const empty = this.#create();
    this.#tokenBytes = empty.tokenBytes;
    this.#roundUp = (tokens) => empty.roundUpTokens(tokens);
    this.#passBytes = passBytes;
  }

  /** Bytes that are allocated now, without free ones. */
  get bytes(): number {
    return sum([...this.#caches].map(({ bytes }) => bytes));
  }

  get freeBytes(): number {
    return this.#freeArrays.bytes;
  }

  /** From now on the caches are in memory that other threads can use too. */
  share(): void {
    if (this.#freeArrays.isShared) return;
    this.#freeArrays.share();
    for (const cache of this.#caches) cache.fit(cache.slotCapacity, cache.tokenCapacity, true);
  }

  /** Runs the model with the rows of `runs` or of one sequence. */
  during<T>(run: () => Promise<T>): Promise<T> {
    return this.#freeArrays.during(run);
  }

  /** Bytes of the smallest rectangles for sequences with these lengths in tokens. */
  bytesFor(lengths: readonly number[]): number {
    const tokens = lengths.map((length) => this.#tokensFor(length)).toSorted((a, b) => b - a);
    const sizes = divideRows(tokens, this.#tokenBytes, { passBytes: 0, bytesMax: Infinity });
    return bytesOfGroups(tokens, sizes, this.#tokenBytes);
  }

  /** Bounds `bytes` between runs; at least `bytesFor` the lengths that the open sequences will have. */
  limit(bytesMax: number): void {
    this.#bytesMax = bytesMax;
    this.#makeRoom([], () => 0);
  }

  open(): Slot {
    const cache = this.#create();
    this.#caches.add(cache);
    const slot = cache.open();
    this.#makeRoom([slot], () => 0);
    return slot;
  }

  close(slot: Slot): void {
    const { cache } = slot;
    cache.close(slot);
    this.#lastDivision = null;
    if (cache.slots.length === 0) this.#remove(cache);
    else if (this.#neededBytes(cache) <= NEEDED_MIN * cache.bytes) cache.shrink();
    this.#trimFree(0);
  }

  /**
   * Bytes of a rectangle for the sequences of this one. Other sequences often join soon after some have left, and then all rows would be
   * copied again; where a run reads too much meanwhile, `#regroup` shrinks it.
   */
  #neededBytes({ slots }: KvCache): number {
    const longest = Math.max(...slots.map(({ length }) => length));
    return this.#bytesOf(roundUpSlots(slots.length), this.#tokensFor(longest));
  }

  #remove(cache: KvCache): void {
    this.#caches.delete(cache);
    cache.free();
  }

  /** Bounds the free memory: by what the caches had lately, and by what the limit leaves when they grow by this many bytes. */
  #trimFree(addedBytes: number): void {
    const { bytes } = this;
    this.#recentBytes = bytes === 0 ? 0 : Math.max(bytes, FREE_DECAY * this.#recentBytes);
    const left = this.#bytesMax - bytes - addedBytes;
    this.#freeArrays.trim(Math.max(0, Math.min(this.#recentBytes, left)));
  }

  /** Makes room for this many tokens: of one sequence, or of all sequences from now on. */
  reserve(tokens: number, slot?: Slot): void {
    if (slot) return this.#makeRoom([slot], () => tokens - slot.length);
    this.#tokensMin = tokens;
    for (const cache of this.#caches) cache.reserve(tokens);
  }

  /** The runs of a step: sequences that run together, and have room for their new tokens. */
  runs(slots: readonly Slot[], countOf: (slot: Slot) => number): Slot[][] {
    this.#regroup(slots, countOf);
    this.#makeRoom(slots, countOf);
    return [...Map.groupBy(slots, ({ cache }) => cache).values()];
  }

  /** Makes room for new tokens of these sequences. If that exceeds the limit, all rectangles become as small as they have to be. */
  #makeRoom(slots: readonly Slot[], countOf: (slot: Slot) => number): void {
    const wanted = new Map(slots.map((slot) => [slot, slot.length + countOf(slot)]));
    const needs = new Map<KvCache, number>();
    for (const [{ cache }, tokens] of wanted) {
      needs.set(cache, Math.max(needs.get(cache) ?? cache.tokenCapacity, this.#roundUp(tokens)));
    }
    const added = [...needs].map(
      ([cache, tokens]) => this.#bytesOf(cache.slotCapacity, tokens) - cache.bytes,
    );
    this.#trimFree(sum(added));
    if (this.bytes + sum(added) <= this.#bytesMax) {
      for (const [cache, tokens] of needs) cache.reserve(tokens);
      return this.#trimFree(0);
    }
    const tokensOf = (slot: Slot) => this.#tokensFor(Math.max(slot.length, wanted.get(slot) ?? 0));
    const all = [...this.#caches].flatMap((cache) => cache.slots);
    this.#apply(this.#divide(all, tokensOf, this.#bytesMax), tokensOf, this.#bytesMax);
  }

  #bytesOf(slots: number, tokens: number): number {
    return rectangleBytes(this.#tokenBytes, slots, tokens);
  }

  #tokensFor(length: number): number {
    return this.#roundUp(Math.max(length, this.#tokensMin));
  }

  /** Changes the groups of sequences that have their next tokens in this step, if keeping them has cost as much as the change. */
  #regroup(slots: readonly Slot[], countOf: (slot: Slot) => number): void {
    const tokensOf = (slot: Slot) => this.#tokensFor(slot.length + countOf(slot));
    const used = new Set(slots.map(({ cache }) => cache));
    const fits = (slot: Slot) => slot.cache.tokenCapacity <= tokensOf(slot);
    if (slots.length === 1 && slots[0]!.cache.slots.length === 1 && fits(slots[0]!)) return;
    const isHere = new Set(slots);
    const idle = [...this.#caches].flatMap((cache) =>
      used.has(cache) ? cache.slots.filter((slot) => !isHere.has(slot)) : [],
    );
    const others = [...this.#caches].filter((cache) => !used.has(cache));
    const othersBytes = sum([
      ...others.map(({ bytes }) => bytes),
      ...idle.map((slot) => this.#bytesOf(1, this.#tokensFor(slot.length))),
    ]);
    const bytesMax = this.#bytesMax - othersBytes;
    const { groups, bytes: best } = this.#bestGroups(slots, tokensOf, bytesMax);
    const now = sum(
      [...Map.groupBy(slots, ({ cache }) => cache)].map(([cache, shown]) => {
        const tokens = Math.max(cache.tokenCapacity, ...shown.map(tokensOf));
        return this.#passBytes + this.#bytesOf(rangeOf(shown).count, tokens);
      }),
    );
    if (now <= best) return;
    this.#excessBytes += now - best;
    const copied = sum(groups.map((group) => this.#copiedTokens(group, tokensOf)));
    if (this.#excessBytes >= COPY_PRICE * this.#bytesOf(1, copied)) {
      this.#apply(groups, tokensOf, bytesMax);
    }
  }

  /** The last division, until another sequence takes part or one of them needs another rectangle. */
  #bestGroups(
    slots: readonly Slot[],
    tokensOf: (slot: Slot) => number,
    bytesMax: number,
  ): Division {
    const tokens = slots.map(tokensOf);
    const last = this.#lastDivision;
    if (last?.bytesMax === bytesMax && isSame(last.slots, slots) && isSame(last.tokens, tokens)) {
      return last;
    }
    const groups = this.#divide(slots, tokensOf, bytesMax);
    const bytes = groups.length * this.#passBytes + this.#bytesOfGroups(groups, tokensOf);
    return (this.#lastDivision = { slots: [...slots], tokens, bytesMax, groups, bytes });
  }

  /** Groups of these sequences, each with the longest first. */
  #divide(slots: readonly Slot[], tokensOf: (slot: Slot) => number, bytesMax: number): Slot[][] {
    const sorted = slots.toSorted((a, b) => tokensOf(b) - tokensOf(a));
    const limits = { passBytes: this.#passBytes, bytesMax };
    const sizes = divideRows(sorted.map(tokensOf), this.#tokenBytes, limits);
    let first = 0;
    return sizes.map((size) => sorted.slice(first, (first += size)));
  }

  /** The rectangle that a group takes over: the one with the most of its tokens among those that have no others. */
  #hostOf(group: readonly Slot[]): KvCache | undefined {
    const members = new Set(group);
    const possible = [...new Set(group.map(({ cache }) => cache))].filter((cache) =>
      cache.slots.every((slot) => members.has(slot)),
    );
    const held = ({ slots }: KvCache) => sum(slots.map(({ length }) => length));
    return possible.toSorted((a, b) => held(b) - held(a))[0];
  }

  /** Tokens that are copied to form a group. */
  #copiedTokens(group: readonly Slot[], tokensOf: (slot: Slot) => number): number {
    const host = this.#hostOf(group);
    const tokens = tokensOf(group[0]!);
    const isKept = host?.tokenCapacity === tokens && group.length <= host.slotCapacity;
    const copied = isKept ? group.filter(({ cache }) => cache !== host) : group;
    return sum(copied.map(({ length }) => length));
  }

  #apply(
    groups: readonly (readonly Slot[])[],
    tokensOf: (slot: Slot) => number,
    bytesMax: number,
  ): void {
    this.#excessBytes = 0;
    const sources = new Set(groups.flat().map(({ cache }) => cache));
    let bytesLeft = bytesMax - this.#bytesOfGroups(groups, tokensOf);
    for (const group of groups) {
      const tokens = tokensOf(group[0]!);
      let slots = group.length;
      // Room for more rows, where there is.
      const more = this.#bytesOf(roundUpSlots(slots), tokens) - this.#bytesOf(slots, tokens);
      if (more <= bytesLeft) {
        slots = roundUpSlots(slots);
        bytesLeft -= more;
      }
      const cache = this.#hostOf(group) ?? this.#create();
      this.#caches.add(cache);
      cache.fit(slots, tokens);
      for (const slot of group) if (slot.cache !== cache) cache.adopt(slot);
      sources.delete(cache);
    }
    for (const source of sources) {
      if (source.slots.length === 0) this.#remove(source);
      else source.shrink();
    }
    this.#trimFree(0);
  }

  #bytesOfGroups(groups: readonly (readonly Slot[])[], tokensOf: (slot: Slot) => number): number {
    return sum(groups.map((group) => this.#bytesOf(group.length, tokensOf(group[0]!))));
  }
}

/** The range of slots from the first to the last of these, all of one rectangle. */
export function rangeOf(slots: readonly Slot[]): { first: number; count: number } {
  const indexes = slots.map(({ index }) => index);
  const first = Math.min(...indexes);
  return { first, count: Math.max(...indexes) - first + 1 };
}

const isSame = <T>(some: readonly T[], others: readonly T[]) =>
  some.length === others.length && some.every((value, at) => value === others[at]);
const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
