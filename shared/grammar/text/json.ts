/**
 * The grammar of JSON without a schema: on one line, with at most one space after a comma or colon. With free whitespace a
 * model could fill its token limit with blanks.
 */
import { choice, EMPTY, optional, repeat, sequence, type Rules } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import { ANY_NUMBER } from "./numbers.ts";
import { ANY_CHARACTER, ESCAPED, PLAIN } from "./characters.ts";
import type { Path } from "../rules/grammar-error.ts";

const HEX: Expression = { byte: [range("09"), range("AF"), range("af")] };
/** An escape sequence. Surrogates have none here: a pair of them is one character, but would count as two. */
const ESCAPE = sequence(
  "\\",
  choice([
    { byte: Array.from('"\\/bfnrt', (one) => range(one + one)) },
    sequence(
      "u",
      choice([
        sequence({ byte: [range("09"), range("AC"), range("EF"), range("ac"), range("ef")] }, HEX),
        sequence({ byte: [range("DD"), range("dd")] }, { byte: [range("07")] }),
      ]),
      HEX,
      HEX,
    ),
  ]),
);
/** A character of a string, written in any way. */
export const CHARACTER = choice([PLAIN(ANY_CHARACTER.without(ESCAPED))!, ESCAPE]);

export const COMMA = sequence(",", optional(" "));
export const COLON = sequence(":", optional(" "));

export const quoted = (content: Expression) => sequence('"', content, '"');

/** A string of min to max characters; null for no limit. */
function anyString(
  { min, max }: { readonly min: number; readonly max: number | null },
  rules: Rules,
  path: Path,
): Expression {
  return quoted(repeat(rules.add(CHARACTER, path), min, max));
}

/** Min to max items, separated by commas; null for no limit. */
export function list(item: Expression, min: number, max: number | null): Expression {
  if (max === 0) return EMPTY;
  const more = repeat(sequence(COMMA, item), Math.max(0, min - 1), max === null ? null : max - 1);
  const items = sequence(item, more);
  return min === 0 ? optional(items) : items;
}

/** An object with any keys, whose values all match `value`. */
function anyObject(value: Expression, rules: Rules, path: Path): Expression {
  const key = rules.add(anyString({ min: 0, max: null }, rules, path), path);
  return sequence("{", list(rules.add(sequence(key, COLON, value), path), 0, null), "}");
}

/** Any JSON value (a rule that refers to itself), and any JSON object. */
export function anyValue(
  rules: Rules,
  path: Path,
): { readonly value: Expression; readonly object: Expression } {
  const { reference: value, define } = rules.reserve(path);
  const object = rules.add(anyObject(value, rules, path), path);
  const array = rules.add(sequence("[", list(value, 0, null), "]"), path);
  const string = rules.add(anyString({ min: 0, max: null }, rules, path), path);
  define(choice([object, array, string, rules.add(ANY_NUMBER, path), "true", "false", "null"]));
  return { value, object };
}

/** The bytes from the first to the last of two ASCII characters. */
function range(ends: string): readonly [number, number] {
  return [ends.charCodeAt(0), ends.charCodeAt(1)];
}
