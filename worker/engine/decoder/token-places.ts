/** Where the tokens of a sequence are in the memory of a cache (kv-cache.ts) or of a run's output, and how they are copied. */
import type { CacheValues, PastInput } from "./graph-io.ts";

/** Tokens of one slot in memory: a row of `capacity` tokens for each head. */
export interface TokenPlace {
  /** Rows in front of those of the first slot. */
  readonly spareRows: number;
  readonly slot: number;
  readonly capacity: number;
  /** Column of the first of the tokens. */
  readonly token: number;
}

interface Source extends TokenPlace {
  readonly values: CacheValues;
}

/** Tokens of one slot in a cache, whose values are given by input. */
export interface CachePlace {
  readonly values: readonly CacheValues[];
  readonly place: TokenPlace;
}

/** The place of all tokens of a slot in an output of a run. */
export const rowsOf = (slot: number, capacity: number): TokenPlace => ({
  spareRows: 0,
  slot,
  capacity,
  token: 0,
});

/** @param isShared whether other threads can use the memory too */
export function allocateValues(
  type: PastInput["type"],
  size: number,
  isShared = false,
): CacheValues {
  const bytes = size * (type === "float16" ? 2 : 4);
  const memory = isShared ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes);
  return type === "float16" ? new Float16Array(memory) : new Float32Array(memory);
}

/** Copies `count` tokens of each head of an input. Overlapping places are allowed. */
export function copyTokens(
  { emptyShape }: PastInput,
  count: number,
  { from, to }: Readonly<Record<"from" | "to", Source>>,
): void {
  const [, heads, , size] = emptyShape as [number, number, number, number];
  const first = ({ spareRows, slot, capacity, token }: TokenPlace, head: number) =>
    ((spareRows + slot * heads + head) * capacity + token) * size;
  for (let head = 0; head < heads; head++) {
    const start = first(from, head);
    to.values.set(from.values.subarray(start, start + count * size), first(to, head));
  }
}

/** Copies `count` tokens of all inputs. Overlapping places are allowed. */
export function copyAllTokens(
  pastInputs: readonly PastInput[],
  count: number,
  from: CachePlace,
  to: CachePlace,
): void {
  for (const [i, past] of pastInputs.entries()) {
    copyTokens(past, count, {
      from: { values: from.values[i]!, ...from.place },
      to: { values: to.values[i]!, ...to.place },
    });
  }
}
