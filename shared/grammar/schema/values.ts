/** The constants of a schema, with exact numbers and the keys in the order of the request's text. */
import { keysInOrder, numberText } from "../../api/json-source.ts";
import { choice, sequence } from "../rules/expressions.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import type { Expression } from "../rules/grammar.ts";
import { COLON, COMMA } from "../text/json.ts";
import { Decimal } from "../text/decimal.ts";

export type Value = null | boolean | string | Decimal | readonly Value[] | ValueObject;

export interface ValueObject {
  readonly members: ReadonlyMap<string, Value>;
}

export const isValueObject = (value: Value): value is ValueObject =>
  typeof value === "object" && value !== null && "members" in value;

/** The exact value of a member of a parsed JSON object or array. @throws GrammarError for a number with too many digits */
export function exactValue(container: object, key: string | number, path: Path): Value {
  const value = (container as Record<string | number, unknown>)[key];
  if (typeof value === "number") return exactNumber(container, key, path);
  if (Array.isArray(value)) return value.map((_, i) => exactValue(value, i, path));
  if (typeof value === "object" && value !== null) {
    const keys = keysInOrder(value);
    return { members: new Map(keys.map((name) => [name, exactValue(value, name, path)])) };
  }
  return value as null | boolean | string;
}

export function exactNumber(container: object, key: string | number, path: Path): Decimal {
  const number = Decimal.parse(numberText(container, key));
  if (number) return number;
  throw new GrammarError(path, "has a number with more than 400 digits, which is not supported", {
    unsupported: true,
  });
}

/** A JSON text of a value, with at most one space after a comma or colon. */
export function valueExpression(value: Value): Expression {
  if (value instanceof Decimal) return numberConstant(value);
  if (Array.isArray(value)) {
    return sequence("[", ...joined(value.map((item) => valueExpression(item))), "]");
  }
  if (!isValueObject(value)) return JSON.stringify(value);
  const members = Array.from(value.members, ([name, member]) =>
    sequence(JSON.stringify(name), COLON, valueExpression(member)),
  );
  return sequence("{", ...joined(members), "}");
}

/** Characters of a constant without an exponent, if the schema writes it with one. */
const PLAIN_CHARS_MAX = 40;

/** As the schema writes it, or without an exponent. */
function numberConstant(value: Decimal): Expression {
  const plain = String(value);
  const { source = plain } = value;
  if (source === plain) return plain;
  return plain.length > PLAIN_CHARS_MAX ? source : choice([plain, source]);
}

function joined(parts: readonly Expression[]): Expression[] {
  return parts.flatMap((part, i) => (i === 0 ? [part] : [COMMA, part]));
}
