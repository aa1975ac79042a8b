/** Sets of characters (code points without surrogates), and how they are written in UTF-8. */
import { CharSet } from "refa";
import { choice, sequence } from "../rules/expressions.ts";
import type { ByteRange, Expression } from "../rules/grammar.ts";
import { oneOf } from "../rules/utf8.ts";

const LAST = 0x10ffff;
/** UTF-8 text has no surrogates. */
const SURROGATES = { min: 0xd800, max: 0xdfff };
export const ANY_CHARACTER = CharSet.all(LAST).without(SURROGATES);
export const NO_CHARACTER = CharSet.empty(LAST);
/** Characters that must be escaped in a JSON string. */
export const ESCAPED = setOf([
  { min: 0, max: 0x1f },
  { min: 0x22, max: 0x22 },
  { min: 0x5c, max: 0x5c },
]);
const CONTROL = setOf([{ min: 0, max: 0x1f }]);

interface Range {
  readonly min: number;
  readonly max: number;
}

export function setOf(ranges: readonly Range[]): CharSet {
  return NO_CHARACTER.union(ranges);
}

/** The characters of a set over another alphabet, such as the UTF-16 units of a pattern without the flag `u`. */
export function characters(set: CharSet): CharSet {
  const known = withoutSurrogates.get(set) ?? setOf(set.ranges).without(SURROGATES);
  withoutSurrogates.set(set, known);
  return known;
}

const withoutSurrogates = new WeakMap<CharSet, CharSet>();

/** Writes one character of a set as an expression; null if no character of the set can be written. */
export type Alphabet = (characters: CharSet) => Expression | null;

/** Writes characters as plain text. */
export const PLAIN: Alphabet = (characters) => {
  if ((characters.ranges.at(-1)?.max ?? Infinity) < 0x80) {
    return { byte: characters.ranges.map(({ min, max }) => [min, max] as const) };
  }
  const { isEmpty, ranges } = characters.without(SURROGATES);
  return isEmpty ? null : oneOf(ranges);
};

/** The letters of the short escape sequences, by the character that they stand for. */
const SHORT_ESCAPES = new Map(
  Array.from('"\\\b\f\n\r\t', (character) => [
    character.codePointAt(0)!,
    JSON.stringify(character).charCodeAt(2),
  ]),
);

/** Writes characters inside a JSON string: those that must be escaped with their shortest escape sequence, the others as they are. */
export const IN_JSON: Alphabet = (characters) => {
  const bare = PLAIN(characters.without(ESCAPED));
  const escapes = escapesOf(characters.intersect(ESCAPED));
  const parts = bare === null ? escapes : [bare, ...escapes];
  return parts.length === 0 ? null : choice(parts);
};

function escapesOf(set: CharSet): Expression[] {
  const letters: ByteRange[] = [];
  /** The last digits of the other sequences, by the text before them. */
  const others = new Map<string, ByteRange[]>();
  for (const { min, max } of set.ranges) {
    for (let code = min; code <= max; code++) {
      const letter = SHORT_ESCAPES.get(code);
      if (letter !== undefined) letters.push([letter, letter]);
      else {
        const text = JSON.stringify(String.fromCodePoint(code)).slice(2, -1);
        const [before, digit] = [text.slice(0, -1), text.charCodeAt(text.length - 1)];
        others.set(before, [...(others.get(before) ?? []), [digit, digit]]);
      }
    }
  }
  const parts: Expression[] = [];
  if (letters.length > 0) parts.push({ byte: letters });
  if (set.isSupersetOf(CONTROL)) parts.push(CONTROL_ESCAPES);
  else for (const [text, byte] of others) parts.push(sequence(text, { byte }));
  return parts.length === 0 ? [] : [sequence("\\", choice(parts))];
}

const HEX_DIGIT: Expression = {
  byte: [
    [0x30, 0x39],
    [0x41, 0x46],
    [0x61, 0x66],
  ],
};
/** u0000 to u001f. */
const CONTROL_ESCAPES = sequence("u00", { byte: [[0x30, 0x31]] }, HEX_DIGIT);

/** A part of all characters, and which of the given sets contain it. */
export interface Piece {
  readonly owners: readonly number[];
  readonly set: CharSet;
}

/**
 * Cuts the characters into pieces that belong to the same of the given sets.
 * @param sets with the number of their owner; the same owner may have several
 * @param steps called with the number of steps before they are done
 * @returns the pieces that belong to any set; equal owners share one piece
 */
export function pieces(
  sets: readonly { readonly set: CharSet; readonly owner: number }[],
  steps: (count: number) => void,
): Piece[] {
  const borders: { at: number; owner: number; change: 1 | -1 }[] = [];
  for (const { set, owner } of sets) {
    steps(2 * set.ranges.length);
    for (const { min, max } of set.ranges) {
      borders.push({ at: min, owner, change: 1 }, { at: max + 1, owner, change: -1 });
    }
  }
  borders.sort((a, b) => a.at - b.at);
  const counts = new Map<number, number>();
  const found = new Map<string, { owners: number[]; ranges: Range[] }>();
  for (let i = 0; i < borders.length;) {
    const { at } = borders[i]!;
    for (; i < borders.length && borders[i]!.at === at; i++) {
      const { owner, change } = borders[i]!;
      const count = (counts.get(owner) ?? 0) + change;
      if (count === 0) counts.delete(owner);
      else counts.set(owner, count);
    }
    if (counts.size === 0) continue;
    steps(counts.size);
    const owners = [...counts.keys()].toSorted((a, b) => a - b);
    const key = owners.join();
    const piece = found.get(key) ?? { owners, ranges: [] };
    found.set(key, piece);
    piece.ranges.push({ min: at, max: borders[i]!.at - 1 });
  }
  return [...found.values()].map(({ owners, ranges }) => ({ owners, set: setOf(ranges) }));
}
