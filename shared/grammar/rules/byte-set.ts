/** Sets of byte values, as 8 words of 32 bits. */
import type { ByteRange } from "./grammar.ts";

export type ByteSet = Uint32Array;

export const emptySet = (): ByteSet => new Uint32Array(8);

export function addRanges(set: ByteSet, ranges: readonly ByteRange[]): void {
  for (const [min, max] of ranges) {
    for (let byte = min; byte <= max; byte++) set[byte >>> 5]! |= 1 << (byte & 31);
  }
}

export function addSet(set: ByteSet, other: ByteSet): void {
  for (let i = 0; i < 8; i++) set[i]! |= other[i]!;
}

/** The bytes of the first set that are not in the second. */
export const without = (set: ByteSet, other: ByteSet): ByteSet =>
  set.map((word, i) => word & ~other[i]!);

const has = (set: ByteSet, byte: number) => ((set[byte >>> 5]! >>> (byte & 31)) & 1) === 1;

/** The parts of ranges that are in a set, as ranges. */
export function rangesWithin(ranges: readonly ByteRange[], set: ByteSet): ByteRange[] {
  const result: [number, number][] = [];
  for (const [min, max] of ranges) {
    let open: [number, number] | null = null;
    for (let byte = min; byte <= max; byte++) {
      if (!has(set, byte)) open = null;
      else if (open) open[1] = byte;
      else result.push((open = [byte, byte]));
    }
  }
  return result;
}

export const isEmptySet = (set: ByteSet) => set.every((word) => word === 0);

export function intersects(a: ByteSet, b: ByteSet): boolean {
  for (let i = 0; i < 8; i++) if ((a[i]! & b[i]!) !== 0) return true;
  return false;
}
