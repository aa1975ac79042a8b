/** The keywords of JSON Schema, their values, and the types that they are about. */
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import { Decimal } from "../text/decimal.ts";
import { isObject, type Schema } from "./document.ts";
import { exactNumber, isValueObject, type Value } from "./values.ts";

export const TYPES = ["object", "array", "string", "number", "boolean", "null"] as const;
export type Type = (typeof TYPES)[number];

/** Keywords about the values of one type, and the type. */
export const KEYWORDS: Readonly<Record<string, Type>> = {
  minimum: "number",
  maximum: "number",
  exclusiveMinimum: "number",
  exclusiveMaximum: "number",
  multipleOf: "number",
  minLength: "string",
  maxLength: "string",
  pattern: "string",
  format: "string",
  items: "array",
  prefixItems: "array",
  additionalItems: "array",
  minItems: "array",
  maxItems: "array",
  uniqueItems: "array",
  contains: "array",
  minContains: "array",
  maxContains: "array",
  properties: "object",
  patternProperties: "object",
  additionalProperties: "object",
  propertyNames: "object",
  required: "object",
  minProperties: "object",
  maxProperties: "object",
  unevaluatedProperties: "object",
};

/** Keywords that combine other schemas. */
export const APPLICATORS = [
  "$ref",
  "allOf",
  "anyOf",
  "oneOf",
  "not",
  "if",
  "dependencies",
  "dependentRequired",
  "dependentSchemas",
] as const;

/** Keywords that restrict the values and cannot be held. Other unknown keywords are annotations. */
export const UNSUPPORTED = [
  "$dynamicRef",
  "$recursiveRef",
  "unevaluatedItems",
  "extends",
  "disallow",
  "divisibleBy",
];

/** @throws GrammarError for a keyword that cannot be held */
export function requireSupported(schema: Schema, path: Path): void {
  const keyword = UNSUPPORTED.find((keyword) => keyword in schema);
  if (keyword !== undefined) throw unsupported([...path, keyword]);
}

export const unsupported = (path: Path, message = "is not supported here") =>
  new GrammarError(path, message, { unsupported: true });

/** Names in `type`: more than there are, because some clients repeat one. */
const TYPE_NAMES_MAX = 16;

/** The types that `type` names, and whether numbers must be integers; null without `type`. @throws GrammarError */
export function typesOf(
  schema: Schema,
  path: Path,
): { readonly types: ReadonlySet<Type>; readonly isInteger: boolean } | null {
  const { type } = schema;
  if (type === undefined) return null;
  const names: unknown[] = Array.isArray(type) ? type : [type];
  const isKnown = (name: unknown) => name === "integer" || TYPES.includes(name as Type);
  if (names.length === 0 || names.length > TYPE_NAMES_MAX || !names.every(isKnown)) {
    const message = `must be one or more of ${[...TYPES, "integer"].join(", ")}`;
    throw new GrammarError([...path, "type"], message);
  }
  const types = names.map((name) => (name === "integer" ? "number" : (name as Type)));
  return {
    types: new Set(types),
    isInteger: names.includes("integer") && !names.includes("number"),
  };
}

export function typeOfValue(value: Value): Type {
  if (value === null) return "null";
  if (value instanceof Decimal) return "number";
  if (Array.isArray(value)) return "array";
  return isValueObject(value) ? "object" : (typeof value as "string" | "boolean");
}

/** The value of a keyword that counts characters, items or properties; null without it. @throws GrammarError */
export function countOf(schema: Schema, keyword: string, path: Path): number | null {
  const value = schema[keyword];
  if (value === undefined) return null;
  if (typeof value === "number" && Number.isInteger(value) && value >= 0) {
    return Math.min(value, COUNT_MAX);
  }
  throw new GrammarError([...path, keyword], "must be a whole number from 0 on");
}

/** No output is that long. */
const COUNT_MAX = 2 ** 31;

/** The numbers of schemas by their keywords: each is read once. */
const numbersOf = new WeakMap<Schema, Map<string, Decimal>>();

/** The exact value of a numeric keyword; null without it. @throws GrammarError */
export function numberOf(schema: Schema, keyword: string, path: Path): Decimal | null {
  const at = [...path, keyword];
  if (schema[keyword] === undefined) return null;
  if (typeof schema[keyword] === "number") {
    const numbers = numbersOf.get(schema) ?? new Map<string, Decimal>();
    numbersOf.set(schema, numbers);
    const number = numbers.get(keyword) ?? exactNumber(schema, keyword, at);
    numbers.set(keyword, number);
    return number;
  }
  throw new GrammarError(at, "must be a number");
}

/** A lower or upper bound; draft 4 has a boolean beside it that makes it exclusive. */
export function boundsOf(
  schema: Schema,
  [inclusive, exclusive]: readonly [string, string],
  path: Path,
) {
  const isFlag = typeof schema[exclusive] === "boolean";
  const at = numberOf(schema, inclusive, path);
  const outside = isFlag ? null : numberOf(schema, exclusive, path);
  return [
    ...(at ? [{ at, isExclusive: schema[exclusive] === true }] : []),
    ...(outside ? [{ at: outside, isExclusive: true }] : []),
  ];
}

export const MIN = ["minimum", "exclusiveMinimum"] as const;
export const MAX = ["maximum", "exclusiveMaximum"] as const;

/** The names that `required` (or another keyword) lists. @throws GrammarError */
export function namesOf(value: unknown, path: Path): readonly string[] {
  if (value === undefined) return [];
  if (Array.isArray(value) && value.every((name) => typeof name === "string")) return value;
  throw new GrammarError(path, "must be an array of names");
}

/** A keyword's value that maps names to schemas. @throws GrammarError */
export function schemasOf(schema: Schema, keyword: string, path: Path): Schema {
  const value = schema[keyword] ?? {};
  if (isObject(value)) return value;
  throw new GrammarError([...path, keyword], "must be an object of schemas");
}

/** A keyword's value that is a list of schemas. @throws GrammarError */
export function listOf(schema: Schema, keyword: string, path: Path): readonly unknown[] {
  const value = schema[keyword];
  if (Array.isArray(value) && value.length > 0) return value;
  throw new GrammarError([...path, keyword], "must be an array with at least one schema");
}
