/**
 * JSON without a schema. On one line, with at most a space after a comma or colon: room for more would be room for a model
 * to fill its limit with blanks.
 */
import type { Expression } from "../grammar.ts";
import { choice, EMPTY, optional, repeat, sequence, type Rules } from "./expressions.ts";
import { decimals } from "./numbers.ts";
import { IN_JSON, regexExpression } from "./regex.ts";

/** Halves of surrogate pairs are no characters: two of them would count as two, and be one. */
const ESCAPE = sequence(
  "\\",
  choice([
    '"',
    "\\",
    regexExpression("[/bfnrt]", IN_JSON),
    regexExpression("u(?:[0-9A-CEFa-cef][0-9A-Fa-f]{3}|[Dd][0-7][0-9A-Fa-f]{2})", IN_JSON),
  ]),
);
const CHARACTER = choice([regexExpression("[^]", IN_JSON), ESCAPE]);

export const COMMA = sequence(",", optional(" "));
export const COLON = sequence(":", optional(" "));

export const quoted = (content: Expression) => sequence('"', content, '"');

/** A string of so many characters. */
export function anyString(min: number, max: number | null, rules: Rules): Expression {
  return quoted(repeat(rules.add(CHARACTER), min, max));
}

export const anyNumber = () => regexExpression(decimals({ min: null, max: null })!, IN_JSON);

/** So many items, with commas between. */
export function list(item: Expression, min: number, max: number | null): Expression {
  if (max === 0) return EMPTY;
  const more = repeat(sequence(COMMA, item), Math.max(0, min - 1), max === null ? null : max - 1);
  const items = sequence(item, more);
  return min === 0 ? optional(items) : items;
}

/** An object of any keys whose values are of one kind. */
export function anyObject(value: Expression, rules: Rules): Expression {
  const pair = rules.add(sequence(rules.add(anyString(0, null, rules)), COLON, value));
  return sequence("{", list(pair, 0, null), "}");
}

/** Any value: one rule that refers to itself. */
export function anyValue(rules: Rules): {
  readonly value: Expression;
  readonly object: Expression;
} {
  const { reference: value, define } = rules.reserve();
  const object = rules.add(anyObject(value, rules));
  const array = rules.add(sequence("[", list(value, 0, null), "]"));
  const scalars = [rules.add(anyString(0, null, rules)), rules.add(anyNumber())];
  define(choice([object, array, ...scalars, "true", "false", "null"]));
  return { value, object };
}
