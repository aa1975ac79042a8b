/** The caches of sequences of different lengths: contents, memory, and how often they are copied. Any token is one number. */
import * as fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { divideRows } from "../../../../worker/engine/decoder/cache-groups.ts";
import type { Alignment, PastInput } from "../../../../worker/engine/decoder/graph-io.ts";
import { GroupedCache, rangeOf } from "../../../../worker/engine/decoder/grouped-cache.ts";
import { KvCache, type Slot } from "../../../../worker/engine/decoder/kv-cache.ts";

vi.mock("../../../../worker/engine/decoder/cache-groups.ts", { spy: true });

const HEADS = 2;
const past: PastInput = { name: "key", output: "", type: "float32", emptyShape: [1, HEADS, 0, 1] };
/** Of one token. */
const BYTES = 4 * HEADS;
const create = (alignment: Alignment = "gap", passTokens = 1_000) =>
  new GroupedCache([past], alignment, { passBytes: passTokens * BYTES, widthMax: null });

/** Keys of one row of a run. */
const keys = (tokens: readonly number[]) => () =>
  Float32Array.from([...tokens, ...tokens.map((token) => -token)]);

function append(cache: GroupedCache, slot: Slot, tokens: readonly number[]): void {
  cache.reserve(slot.length + tokens.length, slot);
  slot.cache.append(slot, keys(tokens), tokens.length);
}

/** Sequences of these lengths, all prefilled. */
function openAll(cache: GroupedCache, lengths: readonly number[]): Slot[] {
  return lengths.map((length) => {
    const slot = cache.open();
    append(cache, slot, Array<number>(length).fill(1));
    return slot;
  });
}

/** One token of each sequence. Returns their lengths before it, by run. */
function step(cache: GroupedCache, slots: readonly Slot[]): number[][] {
  const runs = cache.runs(slots, () => 1);
  return runs.map((run) => {
    const { first, count } = rangeOf(run);
    run[0]!.cache.tensors(first, count, { shown: run, newTokens: 1 });
    const lengths = run.map(({ length }) => length);
    for (const slot of run) slot.cache.append(slot, keys([2]), 1);
    return lengths;
  });
}

const sorted = (runs: readonly (readonly number[])[]) =>
  runs.map((run) => run.toSorted((a, b) => a - b)).toSorted((a, b) => a[0]! - b[0]!);

describe("seven short sequences and a long one", () => {
  const LENGTHS = [...Array<number>(7).fill(128), 4096];
  const sum = LENGTHS.reduce((all, length) => all + length, 0) * BYTES;

  test("are two runs, and take the memory of their tokens", () => {
    const cache = create();
    const slots = openAll(cache, LENGTHS);
    step(cache, slots);
    expect(sorted(step(cache, slots))).toEqual([Array(7).fill(129), [4097]]);
    expect(cache.bytes).toBeLessThanOrEqual(1.25 * sum);
    expect(cache.bytesFor(LENGTHS)).toBeLessThanOrEqual(sum);
  });

  test("are one run where that costs less than another pass over the weights", () => {
    const cache = create("gap", 40_000);
    const slots = openAll(cache, LENGTHS);
    step(cache, slots);
    expect(step(cache, slots)).toHaveLength(1);
  });

  test("are as many runs as have to be where memory is short", () => {
    const cache = create("gap", 40_000);
    cache.limit(cache.bytesFor(LENGTHS.map((length) => length + 8)));
    const slots = openAll(cache, LENGTHS);
    for (let i = 0; i < 8; i++) expect(step(cache, slots)).toHaveLength(2);
  });

  test("give memory back when the long one leaves, or the short ones", () => {
    for (const leaving of [[7], [0, 1, 2, 3, 4, 5, 6]]) {
      const cache = create("gap", 40_000);
      const slots = openAll(cache, LENGTHS);
      for (let i = 0; i < 3; i++) step(cache, slots);
      for (const at of leaving) cache.close(slots[at]!);
      const left = slots.filter((_, at) => !leaving.includes(at));
      const needed = left.length === 1 ? 4_160 : 8 * 192;
      expect(cache.bytes).toBeLessThanOrEqual(4 * BYTES * needed);
      step(cache, left);
      for (const slot of left) cache.close(slot);
      expect(cache.bytes).toBe(0);
    }
  });

  test("a growing one leaves the others, and none is copied often", () => {
    const cache = create("gap", 2_000);
    const slots = openAll(cache, LENGTHS.slice(0, 7));
    const [grown] = slots as [Slot];
    let changes = 0;
    let before = "";
    for (let i = 0; i < 600; i++) {
      const runs = step(cache, slots);
      const groups = JSON.stringify(runs.map((run) => run.length));
      if (groups !== before) changes++;
      before = groups;
      append(cache, grown, [3, 3]);
    }
    expect(before).toBe("[1,6]");
    // All together at the first step, later the grown one apart.
    expect(changes).toBe(2);
  });

  test("share a run when their own runs have cost as much as the copy", () => {
    const cache = create("gap", 100);
    const slots = openAll(cache, LENGTHS.slice(0, 7));
    // Six runs too many are 600 tokens; seven rows of 128 tokens are copied at four times their size.
    const runs = Array.from({ length: 8 }, () => step(cache, slots).length);
    expect(runs).toEqual([7, 7, 7, 7, 7, 7, 1, 1]);
  });
});

test("sequences are divided again only when one needs a larger rectangle, joins or leaves", () => {
  const cache = create();
  cache.limit(2 ** 30);
  // Both rectangles have room for 63 steps from here on.
  const slots = openAll(cache, [64, 65, 129]);
  step(cache, slots);
  const divisions = (steps: number, stepping: readonly Slot[]) => {
    vi.mocked(divideRows).mockClear();
    for (let i = 0; i < steps; i++) step(cache, stepping);
    return vi.mocked(divideRows).mock.calls.length;
  };
  expect(divisions(61, slots)).toBe(0);
  expect(divisions(3, slots)).toBeGreaterThan(0);
  expect(divisions(10, slots.slice(1))).toBe(1);
  cache.close(slots[0]!);
  expect(divisions(10, slots.slice(1))).toBe(1);
});

type Action =
  | { readonly do: "open"; readonly count: number }
  | { readonly do: "close" | "append" | "rewind"; readonly which: number; readonly count: number }
  | { readonly do: "step"; readonly chosen: readonly boolean[]; readonly width: number };

const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ do: fc.constant("open" as const), count: fc.integer({ min: 1, max: 400 }) }),
  fc.record({
    do: fc.constantFrom(...(["close", "append", "rewind"] as const)),
    which: fc.nat(7),
    count: fc.integer({ min: 1, max: 150 }),
  }),
  fc.record({
    do: fc.constant("step" as const),
    chosen: fc.array(fc.boolean(), { minLength: 8, maxLength: 8 }),
    width: fc.integer({ min: 1, max: 3 }),
  }),
);

/** A cache, and the same tokens as one array for each sequence. */
class Sequences {
  readonly cache: GroupedCache;
  readonly all: { readonly slot: Slot; readonly tokens: number[]; readonly most: number }[] = [];
  readonly #isLimited: boolean;
  #next = 1;

  constructor(cache: GroupedCache, isLimited: boolean) {
    this.cache = cache;
    this.#isLimited = isLimited;
  }

  /** Bytes that sequences with these most tokens may take. */
  limit(most = this.all.map((one) => one.most)): number {
    return this.#isLimited ? this.cache.bytesFor(most) : Infinity;
  }

  perform(action: Action): void {
    if (action.do === "open") this.#open(action.count);
    else if (action.do === "step")
      this.#step(
        this.all.filter((_, at) => action.chosen[at]),
        action.width,
      );
    else if (this.all.length > 0) this.#change(action.do, action.which, action.count);
    if (this.#isLimited) this.cache.limit(this.limit());
  }

  #open(most: number): void {
    if (this.all.length === 8) return;
    this.cache.limit(this.limit([...this.all.map((one) => one.most), most]));
    this.all.push({ slot: this.cache.open(), tokens: [], most });
  }

  #step(chosen: typeof this.all, width: number): void {
    const growing = chosen.filter(({ tokens, most }) => tokens.length < most);
    if (growing.length === 0) return;
    // One token of each, or up to three.
    const counts = new Map(
      growing.map(({ slot, tokens, most }, i) => [
        slot,
        Math.min(1 + (i % width), most - tokens.length),
      ]),
    );
    const runs = this.cache.runs([...counts.keys()], (slot) => counts.get(slot)!);
    for (const run of runs) {
      const { first, count } = rangeOf(run);
      run[0]!.cache.tensors(first, count, { shown: run, newTokens: width });
    }
    for (const { slot, tokens } of growing) {
      const ran = runs.filter((run) => run.includes(slot));
      if (ran.length !== 1) throw new Error(`a sequence is in ${ran.length} runs`);
      const added = Array.from({ length: counts.get(slot)! }, () => this.#next++);
      slot.cache.append(slot, keys(added), added.length);
      tokens.push(...added);
    }
  }

  #change(how: "close" | "append" | "rewind", which: number, most: number): void {
    const at = which % this.all.length;
    const { slot, tokens, most: tokensMax } = this.all[at]!;
    if (how === "close") {
      this.cache.close(slot);
      this.all.splice(at, 1);
    } else if (how === "rewind") {
      const count = Math.min(most, tokens.length);
      slot.length -= count;
      tokens.length -= count;
    } else {
      const count = Math.min(most, tokensMax - tokens.length);
      const added = Array.from({ length: count }, () => this.#next++);
      if (count > 0) append(this.cache, slot, added);
      tokens.push(...added);
    }
  }
}

describe.each(["start", "gap", "end"] as const)("caches with tokens at the %s", (alignment) => {
  test("hold the same as one array per sequence, within the limit, after any actions", () => {
    const plan = [
      fc.array(action, { maxLength: 40 }),
      fc.integer({ min: 1, max: 4_000 }),
      fc.boolean(),
    ] as const;
    fc.assert(
      fc.property(...plan, (actions, passTokens, isLimited) => {
        const cache = create(alignment, passTokens);
        const sequences = new Sequences(cache, isLimited);
        for (const action of actions) {
          sequences.perform(action);
          expect(cache.bytes).toBeLessThanOrEqual(sequences.limit());
          for (const { slot, tokens } of sequences.all) {
            const held = slot.cache.read(slot, 0, slot.length).get("key")!;
            expect([...held]).toEqual([...keys(tokens)()]);
          }
        }
        for (const { slot } of sequences.all) cache.close(slot);
        expect(cache.bytes).toBe(0);
      }),
      { numRuns: 60 },
    );
  });
});

test("sequences that take the place of others need no new memory and no copy of the rest", () => {
  const cache = create("gap", 40_000);
  let slots = openAll(cache, Array<number>(8).fill(120));
  step(cache, slots);
  const [first] = slots as [Slot];
  const { cache: shared } = first;
  const held = cache.bytes;
  for (let i = 0; i < 4; i++) {
    for (const slot of slots.slice(3)) cache.close(slot);
    expect(cache.bytes).toBe(held);
    slots = [...slots.slice(0, 3), ...openAll(cache, Array<number>(5).fill(120))];
    step(cache, slots);
    expect(slots.map((slot) => slot.cache === shared)).not.toContain(false);
  }
});

test("one that is left alone in a wide rectangle gets a narrower one, once the padding has cost as much as the copy", () => {
  const cache = create("gap", 40_000);
  const [long, short] = openAll(cache, [2_000, 1_100]) as [Slot, Slot];
  step(cache, [long, short]);
  cache.close(long);
  const widths = Array.from({ length: 8 }, () => {
    step(cache, [short]);
    return short.cache.tokenCapacity;
  });
  // 896 masked tokens in each run; about 1,100 are copied at four times their size.
  expect(widths).toEqual([2_048, 2_048, 2_048, 2_048, 1_152, 1_152, 1_152, 1_152]);
});

test("room for rejected drafts is not given back before the next ones", () => {
  const cache = create();
  const [slot] = openAll(cache, [60]) as [Slot];
  const changes = vi.spyOn(KvCache.prototype, "fit");
  for (let i = 0; i < 50; i++) {
    cache.runs([slot], () => 8);
    append(cache, slot, Array<number>(8).fill(3));
    slot.length -= 8;
  }
  expect(changes).not.toHaveBeenCalled();
  changes.mockRestore();
});

test("free memory stays within the limit and what caches had lately, and none is kept without sequences", () => {
  const cache = create("gap", 40_000);
  cache.limit(cache.bytesFor([192, 192, 300]));
  const slots = openAll(cache, [128, 128]);
  step(cache, slots);
  const held = () => cache.bytes + cache.freeBytes;
  for (let i = 0; i < 3; i++) {
    const [slot] = openAll(cache, [200]);
    step(cache, [...slots, slot!]);
    const peak = cache.bytes;
    expect(held()).toBeLessThanOrEqual(cache.bytesFor([192, 192, 300]));
    cache.close(slot!);
    expect(cache.freeBytes).toBeGreaterThan(0);
    expect(cache.freeBytes).toBeLessThanOrEqual(peak);
  }
  for (const slot of slots) cache.close(slot);
  expect(held()).toBe(0);
});
