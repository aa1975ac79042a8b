/** Ranges of characters as the bytes of their UTF-8. */
import type { ByteRange } from "../grammar.ts";

/** Code points by the length of their UTF-8. */
const LENGTHS = [
  [0, 0x7f],
  [0x80, 0x7ff],
  [0x800, 0xffff],
  [0x10000, 0x10ffff],
] as const;

/** @param min, max code points between which there is no half of a surrogate pair
 *  @returns runs of bytes, as alternatives */
export function utf8Of(min: number, max: number): ByteRange[][] {
  return LENGTHS.flatMap(([least, most]) => {
    const [from, to] = [Math.max(min, least), Math.min(max, most)];
    return from > to ? [] : between(bytesOf(from), bytesOf(to));
  });
}

const bytesOf = (codePoint: number) => [
  ...new TextEncoder().encode(String.fromCodePoint(codePoint)),
];

/** All between two of the same length. */
function between(low: readonly number[], high: readonly number[]): ByteRange[][] {
  const [first, last] = [low[0]!, high[0]!];
  const [lowRest, highRest] = [low.slice(1), high.slice(1)];
  if (lowRest.length === 0) return [[[first, last]]];
  const before = (byte: number, rest: ByteRange[][]) =>
    rest.map((tail): ByteRange[] => [[byte, byte], ...tail]);
  if (first === last) return before(first, between(lowRest, highRest));
  const isFromStart = lowRest.every((byte) => byte === 0x80);
  const isToEnd = highRest.every((byte) => byte === 0xbf);
  const [from, to] = [isFromStart ? first : first + 1, isToEnd ? last : last - 1];
  const any = lowRest.map((): ByteRange => [0x80, 0xbf]);
  const [start, end] = [lowRest.map(() => 0x80), lowRest.map(() => 0xbf)];
  return [
    ...(isFromStart ? [] : before(first, between(lowRest, end))),
    ...(from <= to ? [[[from, to] as const, ...any]] : []),
    ...(isToEnd ? [] : before(last, between(start, highRest))),
  ];
}
