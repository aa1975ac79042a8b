/** Characters as their UTF-8 bytes. */
import { choice, sequence } from "./expressions.ts";
import type { ByteRange, Expression } from "./grammar.ts";

/** Ranges of code points whose UTF-8 has one, two, three and four bytes. */
const RANGES_BY_LENGTH = [
  [0, 0x7f],
  [0x80, 0x7ff],
  [0x800, 0xffff],
  [0x10000, 0x10ffff],
] as const;

/** One character within ranges of code points, in ascending order. The ranges must not contain surrogates. */
export function oneOf(
  ranges: readonly { readonly min: number; readonly max: number }[],
): Expression {
  return factored(ranges.flatMap(({ min, max }) => utf8Ranges(min, max)));
}

/** The alternatives, with common beginnings and equal endings written once. */
function factored(runs: readonly (readonly ByteRange[])[]): Expression {
  /** By the first byte's range: what follows it. */
  const rests = new Map<string, { first: ByteRange; runs: (readonly ByteRange[])[] }>();
  for (const [first, ...rest] of runs) {
    const group = rests.get(String(first)) ?? { first: first!, runs: [] };
    rests.set(String(first), group);
    if (rest.length > 0) group.runs.push(rest);
  }
  /** By what follows: the ranges of the first byte. */
  const options = new Map<string, { byte: ByteRange[]; rest: Expression }>();
  for (const { first, runs } of rests.values()) {
    const rest = runs.length === 0 ? "" : factored(runs);
    const key = JSON.stringify(rest);
    const option = options.get(key) ?? { byte: [], rest };
    options.set(key, option);
    option.byte.push(first);
  }
  return choice([...options.values()].map(({ byte, rest }) => sequence({ byte }, rest)));
}

/**
 * @param min, max code points; no surrogates between them
 * @returns alternatives, each a sequence of byte ranges
 */
function utf8Ranges(min: number, max: number): ByteRange[][] {
  return RANGES_BY_LENGTH.flatMap(([first, last]) => {
    const [from, to] = [Math.max(min, first), Math.min(max, last)];
    return from > to ? [] : between(bytesOf(from), bytesOf(to));
  });
}

const bytesOf = (codePoint: number) => [
  ...new TextEncoder().encode(String.fromCodePoint(codePoint)),
];

/** All byte sequences from low to high, which have the same length. */
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
