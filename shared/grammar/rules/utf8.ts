/** Characters as their UTF-8 bytes. */
import { contentKey } from "./content-key.ts";
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

/** The code points whose UTF-8 begins with a byte and has further ones; the byte must be the first one of a character. */
export function codesWith(byte: number): { readonly min: number; readonly max: number } {
  const further = byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
  const [first, last] = RANGES_BY_LENGTH[further];
  const min = (byte & (0x3f >>> further)) << (6 * further);
  return { min: Math.max(first, min), max: Math.min(last, min + 2 ** (6 * further) - 1) };
}

/** The alternatives, with common beginnings and equal endings written once. */
function factored(runs: readonly (readonly ByteRange[])[], depth = 0): Expression {
  /** By the range of the byte at this depth: the alternatives that begin with it. */
  const groups = new Map<number, (readonly ByteRange[])[]>();
  for (const run of runs) {
    const [min, max] = run[depth]!;
    const group = groups.get(min * 256 + max);
    if (group) group.push(run);
    else groups.set(min * 256 + max, [run]);
  }
  /** By what follows: the ranges of the byte. */
  const options = new Map<string, { byte: ByteRange[]; rest: Expression }>();
  for (const group of groups.values()) {
    const [run] = group as [readonly ByteRange[]];
    const isLast = run.length === depth + 1;
    const rest = isLast ? "" : factored(group, depth + 1);
    const key = isLast ? "" : contentKey(rest).key;
    const option = options.get(key) ?? { byte: [], rest };
    options.set(key, option);
    option.byte.push(run[depth]!);
  }
  return choice(Array.from(options.values(), ({ byte, rest }) => sequence({ byte }, rest)));
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

function bytesOf(code: number): number[] {
  const rest = (shift: number) => 0x80 | ((code >>> shift) & 0x3f);
  if (code < 0x80) return [code];
  if (code < 0x800) return [0xc0 | (code >>> 6), rest(0)];
  if (code < 0x10000) return [0xe0 | (code >>> 12), rest(6), rest(0)];
  return [0xf0 | (code >>> 18), rest(12), rest(6), rest(0)];
}

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
