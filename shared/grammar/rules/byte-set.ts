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

export function intersects(a: ByteSet, b: ByteSet): boolean {
  for (let i = 0; i < 8; i++) if ((a[i]! & b[i]!) !== 0) return true;
  return false;
}
