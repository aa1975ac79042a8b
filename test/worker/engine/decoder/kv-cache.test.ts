import * as fc from "fast-check";
import type { Tensor } from "../../../../worker/engine/onnxruntime/onnxruntime.ts";
import { describe, expect, test } from "vitest";
import {
  bytesPerToken,
  hasStandardLayout,
  type Alignment,
  type CacheValues,
  type PastInput,
} from "../../../../worker/engine/decoder/graph-io.ts";
import { rectangleBytes, roundUpSlots } from "../../../../worker/engine/decoder/cache-groups.ts";
import { KvCache, type Slot } from "../../../../worker/engine/decoder/kv-cache.ts";
import { rowsOf } from "../../../../worker/engine/decoder/token-places.ts";

/** Keys and values of different sizes, several heads. */
const pastsOf = (type: PastInput["type"]): PastInput[] => [
  { name: "key", output: "", type, emptyShape: [1, 2, 0, 3] },
  { name: "value", output: "", type, emptyShape: [1, 2, 0, 1] },
  { name: "other", output: "", type, emptyShape: [1, 1, 0, 2] },
];

/** A number for each entry that no other token, head or input has; an integer small enough for float16. */
function valueAt(token: number, past: number, head: number, i: number): number {
  return (token * 16 + past * 6 + head * 3 + i) % 2048;
}

/** Output of a run: keys or values of the new tokens, [batch, heads, count, size]. */
function newValues(pasts: readonly PastInput[], rows: readonly (readonly number[])[]) {
  return (name: string): CacheValues => {
    const at = pasts.findIndex((past) => past.name === name);
    const { type, emptyShape } = pasts[at]!;
    const [, heads, , size] = emptyShape as [number, number, number, number];
    const values = rows.flatMap((tokens) =>
      Array.from({ length: heads }, (_, head) =>
        tokens.map((token) => Array.from({ length: size }, (_, i) => valueAt(token, at, head, i))),
      ).flat(2),
    );
    return type === "float16" ? Float16Array.from(values) : Float32Array.from(values);
  };
}

/** Expected content of the cache for a slot with these tokens, by input and head. */
function expectedRows(pasts: readonly PastInput[], tokens: readonly number[]) {
  return pasts.map(({ emptyShape }, past) =>
    Array.from({ length: emptyShape[1]! }, (_, head) =>
      tokens.flatMap((token) =>
        Array.from({ length: emptyShape[3]! }, (_, i) => valueAt(token, past, head, i)),
      ),
    ),
  );
}

/** Values of a cache tensor. Those of float16 are given as their bits. */
function valuesOf(data: Tensor["data"]): Float32Array | Float16Array {
  if (!(data instanceof Uint16Array)) return data as Float32Array;
  return new Float16Array(data.buffer, data.byteOffset, data.length);
}

/** The rows of neighbouring slots in one batch, without unused entries, by slot, input and head. */
function cachedRows(cache: KvCache, alignment: Alignment, slots: readonly Slot[]) {
  const shown = { shown: slots, newTokens: 1 };
  const { tensors, width } = cache.tensors(slots[0]!.index, slots.length, shown);
  return slots.map(({ length }, row) =>
    pastsOf("float32").map(({ name, emptyShape }) => {
      const { data, dims } = tensors[name]!;
      const [, heads, , size] = emptyShape as [number, number, number, number];
      expect(dims).toEqual([slots.length, heads, width, size]);
      expect(data).toHaveLength(slots.length * heads * width * size);
      const values = valuesOf(data);
      return Array.from({ length: heads }, (_, head) => {
        const firstColumn = alignment === "end" ? width - length : 0;
        const start = ((row * heads + head) * width + firstColumn) * size;
        return Array.from(values.subarray(start, start + length * size));
      });
    }),
  );
}

/** Bytes of a cache when exactly these sequences are open; lengths in tokens. */
function bytesFor(cache: KvCache, lengths: readonly number[]): number {
  const tokens = cache.roundUpTokens(Math.max(0, ...lengths));
  return rectangleBytes(cache.tokenBytes, roundUpSlots(lengths.length), tokens);
}

type Action =
  | { readonly do: "open" }
  | {
      readonly do: "close" | "rewind" | "append" | "copy";
      readonly which: number;
      readonly count: number;
    };

const action: fc.Arbitrary<Action> = fc.oneof(
  fc.record({ do: fc.constant("open" as const) }),
  fc.record({
    do: fc.constantFrom(...(["close", "rewind", "append", "append", "copy"] as const)),
    which: fc.nat(7),
    count: fc.oneof(fc.integer({ min: 1, max: 5 }), fc.integer({ min: 1, max: 150 })),
  }),
);

describe.each([
  ["float32", "end", null],
  ["float32", "start", null],
  ["float32", "gap", null],
  ["float32", "gap", 100],
  ["float16", "end", 100],
] as const)("a cache of %s, tokens at the %s, width at most %s", (type, alignment, widthMax) => {
  const pasts = pastsOf(type);

  test("holds the same as one array per sequence, after any sequence of actions", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
        const cache = new KvCache(pasts, alignment, widthMax);
        const sequences: { slot: Slot; tokens: number[] }[] = [];
        let next = 0;
        for (const action of actions) {
          if (action.do === "open") {
            sequences.push({ slot: cache.open(), tokens: [] });
          } else if (sequences.length > 0) {
            const at = action.which % sequences.length;
            const { slot, tokens } = sequences[at]!;
            if (action.do === "close") {
              cache.close(slot);
              sequences.splice(at, 1);
            } else if (action.do === "rewind") {
              const count = Math.min(action.count, tokens.length);
              slot.length -= count;
              tokens.length -= count;
            } else if (action.do === "copy") {
              const start = Math.floor(tokens.length / 3);
              const copied = tokens.slice(start, start + action.count);
              const rows = cache.read(slot, start, copied.length);
              const copy = { slot: cache.open(), tokens: copied };
              cache.append(copy.slot, (name) => rows.get(name)!, copied.length);
              sequences.push(copy);
            } else {
              const added = Array.from({ length: action.count }, () => next++);
              // The slot is the last of three rows of the batch.
              const others = [added.map(() => 7), added.map(() => 9)];
              cache.append(
                slot,
                newValues(pasts, [...others, added]),
                added.length,
                rowsOf(2, added.length),
              );
              tokens.push(...added);
            }
          }
          expect(cache.slots).toHaveLength(sequences.length);
          for (const [index, slot] of cache.slots.entries()) expect(slot.index).toBe(index);
          const ordered = sequences.toSorted((a, b) => a.slot.index - b.slot.index);
          expect(cache.slots.map(({ length }) => length)).toEqual(
            ordered.map(({ tokens }) => tokens.length),
          );
          // Each slot alone, then the upper half of them as one batch.
          const batches = [...ordered.map((one) => [one]), ordered.slice(ordered.length >> 1)];
          for (const batch of batches.filter(({ length }) => length > 0)) {
            const slots = batch.map(({ slot }) => slot);
            expect(cachedRows(cache, alignment, slots)).toEqual(
              batch.map(({ tokens }) => expectedRows(pasts, tokens)),
            );
          }
        }
      }),
      { numRuns: 60 },
    );
  });

  test("holds exactly the bytes of its rectangle, as sequences open, grow and leave", () => {
    fc.assert(
      fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
        const cache = new KvCache(pasts, alignment, widthMax);
        const slots: Slot[] = [];
        for (const action of actions) {
          if (action.do === "open") slots.push(cache.open());
          else if (slots.length > 0) {
            const at = action.which % slots.length;
            if (action.do === "close") {
              cache.close(slots.splice(at, 1)[0]!);
              cache.shrink();
            }
            const tokens = Array.from({ length: action.count }, () => 0);
            if (action.do === "append") {
              cache.append(slots[at]!, newValues(pasts, [tokens]), action.count);
            }
          }
          expect(cache.bytes).toBe(
            bytesFor(
              cache,
              slots.map(({ length }) => length),
            ),
          );
        }
        for (const slot of slots) cache.close(slot);
        cache.shrink();
        expect(cache.bytes).toBe(0);
      }),
    );
  });

  test("grows tokens in multiples of 64, and doubles slots", () => {
    const cache = new KvCache(pasts, alignment, widthMax);
    const token = bytesPerToken(pasts);
    expect(token).toBe((2 * 3 + 2 * 1 + 2) * (type === "float16" ? 2 : 4));
    expect(bytesFor(cache, [])).toBe(0);
    expect(bytesFor(cache, [1])).toBe(bytesFor(cache, [64]));
    const second = widthMax === null ? 128 : 99;
    expect(bytesFor(cache, [65])).toBe((second / 64) * bytesFor(cache, [64]));
    const spare = alignment === "end" ? (token * 6) / 10 : 0;
    expect(bytesFor(cache, [64])).toBe(64 * (token + spare));
    expect(bytesFor(cache, [1, 65, 2])).toBe(second * (4 * token + spare));
  });

  test("gives neighbouring slots as one batch without a copy", () => {
    const cache = new KvCache(pasts, alignment, widthMax);
    const slots = [cache.open(), cache.open(), cache.open()];
    for (const [i, slot] of slots.entries()) {
      cache.append(slot, newValues(pasts, [[10 * i, 10 * i + 1]]), 2);
    }
    const shown = { shown: slots, newTokens: 1 };
    const batch = cache.tensors(1, 2, shown).tensors["key"]!;
    expect(batch.dims).toEqual([2, 2, 64, 3]);
    const whole = cache.tensors(0, 3, shown).tensors["key"]!;
    expect((batch.data as Float32Array).buffer).toBe((whole.data as Float32Array).buffer);
  });

  test("is as wide as the longest sequence where its capacity would be too much", () => {
    const cache = new KvCache(pasts, alignment, 70);
    const [long, short] = [cache.open(), cache.open()];
    cache.append(long, newValues(pasts, [Array<number>(66).fill(1)]), 66);
    cache.append(short, newValues(pasts, [[1, 2, 3]]), 3);
    const width = (slot: Slot, newTokens: number) =>
      cache.tensors(slot.index, 1, { shown: [slot], newTokens }).width;
    expect([width(long, 1), width(long, 4), width(short, 4)]).toEqual([69, 66, 3]);
  });

  test("moves no tokens of sequences that run together at every step", () => {
    const cache = new KvCache(pasts, alignment, widthMax);
    const [first, second] = [cache.open(), cache.open()];
    cache.append(first, newValues(pasts, [[1, 2, 3]]), 3);
    cache.append(second, newValues(pasts, [[4]]), 1);
    const starts: (readonly number[])[] = [];
    for (let token = 5; token < 60; token++) {
      cache.tensors(0, 2, { shown: [first, second], newTokens: 1 });
      for (const slot of [first, second]) cache.append(slot, newValues(pasts, [[token]]), 1);
      starts.push([first.start, second.start]);
    }
    const expected = alignment === "end" ? [0, 2] : [0, 0];
    expect(starts).toEqual(starts.map(() => expected));
  });

  // The last slot moves into the place of one that leaves; the next sequences use the places that are left.
  test.each([
    { leaves: [1], how: "closes" },
    { leaves: [0, 3], how: "closes, moved" },
    { leaves: [1], how: "goes to another cache" },
  ])(
    "values that are not finite end with their slot ($how): a mask would not hide them",
    ({ leaves, how }) => {
      const cache = new KvCache(pasts, alignment, widthMax);
      const slots = Array.from({ length: 4 }, () => cache.open());
      const broken = leaves.at(-1)!;
      for (const [i, slot] of slots.entries()) {
        const tokens = i === broken ? [1, 2, NaN, NaN] : [3];
        cache.append(slot, newValues(pasts, [tokens]), tokens.length);
      }
      for (const at of leaves) {
        if (how === "goes to another cache")
          new KvCache(pasts, alignment, widthMax).adopt(slots[at]!);
        else cache.close(slots[at]!);
      }
      for (const _ of leaves) cache.append(cache.open(), newValues(pasts, [[3]]), 1);
      const { tensors } = cache.tensors(0, 4, { shown: cache.slots, newTokens: 1 });
      for (const { type, data } of Object.values(tensors)) {
        const bits = data as Uint16Array<ArrayBuffer>;
        const values =
          type === "float16"
            ? new Float16Array(bits.buffer, bits.byteOffset, bits.length)
            : (data as Float32Array);
        expect(values.every((value) => Number.isFinite(value))).toBe(true);
      }
    },
  );
});

test("the standard layout has the tokens on the third of four axes", () => {
  const past = (emptyShape: number[]): PastInput => ({
    name: "",
    output: "",
    type: "float32",
    emptyShape,
  });
  expect(hasStandardLayout(past([1, 2, 0, 8]))).toBe(true);
  expect(hasStandardLayout(past([1, 0, 2, 8]))).toBe(false);
  expect(hasStandardLayout(past([1, 0, 16]))).toBe(false);
  expect(hasStandardLayout(past([1, 2, 8, 0]))).toBe(false);
});
