/**
 * The negation of a schema, as alternatives of schemas without `not`. Some negations cannot be written (the texts that have no
 * `format`): they are left out, so that fewer values are allowed, but never an invalid one.
 */
import { numberText } from "../../api/json-source.ts";
import { Decimal } from "../text/decimal.ts";
import type { Alternative, Alternatives, Part } from "./alternatives.ts";
import type { Path } from "../rules/grammar-error.ts";
import type { Constants } from "./constants.ts";
import { isObject, type Claim, type Document, type Schema } from "./document.ts";
import {
  countOf,
  MAX,
  MIN,
  namesOf,
  schemasOf,
  TYPES,
  typeOfValue,
  typesOf,
  unsupported,
  type Type,
} from "./keywords.ts";
import type { Value } from "./values.ts";

type SchemaClaim = Part["claim"];

/** The alternatives of which at least one holds if the schema does not hold. @throws GrammarError if none can be written */
export function negations(
  claim: SchemaClaim,
  document: Document,
  alternatives: Alternatives,
): readonly Alternative[] {
  const { schema, path } = claim;
  const positive = { ...claim, isNegated: false };
  const result = [
    ...combinedNegations(positive, document, alternatives),
    ...flatNegations(positive, alternatives.constants).map((part) => [part]),
  ];
  // Without keywords that could not be negated, the schema allows every value.
  if (result.length > 0 || !Object.keys(schema).some((keyword) => HARD.has(keyword))) return result;
  throw unsupported(path, "cannot be negated here");
}

/** Keywords whose negations are left out, always or sometimes. */
const HARD = new Set([
  "format",
  "multipleOf",
  "minimum",
  "maximum",
  "exclusiveMinimum",
  "exclusiveMaximum",
  "items",
  "prefixItems",
  "additionalItems",
  "contains",
  "uniqueItems",
  "patternProperties",
  "additionalProperties",
  "unevaluatedProperties",
  "propertyNames",
  "dependencies",
  "dependentRequired",
  "dependentSchemas",
]);

/** Whether the negation leaves out no value, apart from the schemas inside. */
export function isWhollyNegated(schema: Schema): boolean {
  const values = [schema["const"] ?? null, schema["enum"] ?? []].flat();
  return (
    !Object.keys(schema).some((keyword) => HARD.has(keyword)) &&
    values.every((value) => value === null || ["string", "boolean"].includes(typeof value))
  );
}

/**
 * Objects of the first schema that have a property which the second one, whose objects are closed, does not allow. Only such as are
 * easily found: each schema has one alternative.
 */
export function closedNegation(
  [of, ...more]: readonly Alternative[],
  [closed, ...others]: readonly Alternative[],
): readonly Alternative[] {
  const names = closedNames(closed ?? []);
  if (!of || !names || more.length + others.length > 0) return [];
  const own = new Set(of.flatMap(({ claim: { schema, path } }) => propertyNames(schema, path)));
  const outside = [...own].filter((name) => !names.has(name));
  const claim = { ...closed![0]!.claim, isNegated: false };
  const part = (schema: Schema): Alternative => [{ claim: { ...claim, schema } }];
  const allowed = closedNames(of);
  const isOutside = allowed !== null && ![...allowed].some((name) => names.has(name));
  if (isOutside && outside.length > 0) return [part({ type: "object", minProperties: 1 })];
  return outside.map((name) => part({ type: "object", required: [name] }));
}

const propertyNames = (schema: Schema, path: Path) =>
  Object.keys(schemasOf(schema, "properties", path));

/** The names that an object may have; null if others may be allowed. */
function closedNames(parts: Alternative): ReadonlySet<string> | null {
  const closed = parts.find(
    ({ claim: { schema }, evaluated }) =>
      schema["additionalProperties"] === false && !("patternProperties" in schema) && !evaluated,
  );
  return closed ? new Set(propertyNames(closed.claim.schema, closed.claim.path)) : null;
}

function combinedNegations(
  claim: SchemaClaim,
  document: Document,
  alternatives: Alternatives,
): Alternative[] {
  const { schema } = claim;
  const result: Alternative[] = [];
  const child = (keyword: string, isNegated: boolean): Claim =>
    document.child(claim, [keyword], isNegated);
  const branches = (keyword: string) => alternatives.branches(claim, keyword, true);
  if ("$ref" in schema) {
    result.push(...alternatives.of({ ...document.target(claim), isNegated: true }));
  }
  if ("not" in schema) result.push(...alternatives.of(child("not", false)));
  if ("allOf" in schema) result.push(...alternatives.union(branches("allOf")));
  if ("anyOf" in schema) result.push(...alternatives.ofAll(branches("anyOf")));
  if ("oneOf" in schema) result.push(...notOne(branches("oneOf"), alternatives));
  if ("if" in schema && "then" in schema) {
    result.push(...alternatives.ofAll([child("if", false), child("then", true)]));
  }
  if ("if" in schema && "else" in schema) {
    result.push(...alternatives.ofAll([child("if", true), child("else", true)]));
  }
  return result;
}

/** None of the branches, or two of them. */
function notOne(branches: readonly Claim[], alternatives: Alternatives): Alternative[] {
  const positive = branches.map((branch) => ({ ...branch, isNegated: false }));
  const pairs = positive.flatMap((a, i) => positive.slice(i + 1).map((b) => [a, b]));
  return [alternatives.ofAll(branches), ...pairs.map((pair) => alternatives.ofAll(pair))].flat();
}

/** One part for each keyword that is not met. */
function flatNegations(claim: SchemaClaim, constants: Constants): Part[] {
  const { schema } = claim;
  const parts: Part[] = [];
  const add = (schema: Schema, more: Omit<Part, "claim"> = {}) => {
    parts.push({ claim: { ...claim, schema }, ...more });
  };
  negateTypes(claim, add);
  for (const keyword of ["const", "enum"] as const) {
    if (keyword in schema) negateValues(constants.listed(schema, keyword, claim.path).values, add);
  }
  negateNumbers(claim, add);
  if (typeof schema["pattern"] === "string") {
    add({ type: "string" }, { notPatterns: [schema["pattern"]] });
  }
  negateCounts(claim, add);
  negateItems(schema, add);
  negateProperties(claim, add);
  return parts;
}

type Add = (schema: Schema, more?: Omit<Part, "claim">) => void;

function negateTypes({ schema, path }: SchemaClaim, add: Add): void {
  const types = typesOf(schema, path);
  const others = types && TYPES.filter((type) => !types.types.has(type));
  if (others && others.length > 0) add({ type: others });
}

/** Everything but these values. Arrays and objects are left out if any of the values is one. */
function negateValues(values: readonly Value[], add: Add): void {
  const used = new Set<Type>(values.map(typeOfValue));
  const free = TYPES.filter((type) => !used.has(type));
  if (free.length > 0) add({ type: free });
  const strings = values.filter((value) => typeof value === "string");
  if (strings.length > 0) add({ type: "string" }, { notStrings: new Set(strings) });
  const booleans = [true, false].filter((value) => !values.includes(value));
  if (used.has("boolean") && booleans.length > 0) add({ enum: booleans });
  const numbers = values
    .filter((value) => value instanceof Decimal)
    .toSorted((a, b) => a.compare(b));
  const isExact = (number: Decimal) =>
    Decimal.parse(String(Number(String(number))))?.equals(number);
  if (numbers.length === 0 || !numbers.every(isExact)) return;
  for (let i = 0; i <= numbers.length; i++) {
    add({
      type: "number",
      ...(i > 0 && { exclusiveMinimum: Number(String(numbers[i - 1])) }),
      ...(i < numbers.length && { exclusiveMaximum: Number(String(numbers[i])) }),
    });
  }
}

function negateNumbers({ schema }: SchemaClaim, add: Add): void {
  const negate = (
    [inclusive, exclusive]: readonly [string, string],
    [to, toExclusive]: readonly [string, string],
  ) => {
    const isFlag = schema[exclusive] === true;
    for (const keyword of [inclusive, exclusive]) {
      const value = schema[keyword];
      if (typeof value !== "number") continue;
      const exact = Decimal.parse(String(value));
      if (!exact || !Decimal.parse(numberText(schema, keyword))?.equals(exact)) continue;
      const isExclusive = keyword === exclusive || isFlag;
      add({ type: "number", [isExclusive ? to : toExclusive]: value });
    }
  };
  negate(MIN, MAX);
  negate(MAX, MIN);
}

/** Of each keyword that counts: its type, the keyword of its negation, and what to add to the count. */
const COUNTS: Readonly<Record<string, readonly [type: Type, keyword: string, add: 1 | -1]>> = {
  minLength: ["string", "maxLength", -1],
  maxLength: ["string", "minLength", 1],
  minItems: ["array", "maxItems", -1],
  maxItems: ["array", "minItems", 1],
  minProperties: ["object", "maxProperties", -1],
  maxProperties: ["object", "minProperties", 1],
};

function negateCounts({ schema, path }: SchemaClaim, add: Add): void {
  for (const [keyword, [type, opposite, change]] of Object.entries(COUNTS)) {
    const count = countOf(schema, keyword, path);
    if (count !== null && count + change >= 0) {
      add({ type, [opposite]: count + change }, { isNegation: true });
    }
  }
}

function negateItems(schema: Schema, add: Add): void {
  const { items, contains } = schema;
  const isSimple = !("prefixItems" in schema) && !Array.isArray(items);
  if (items !== undefined && isSimple) add({ type: "array", contains: { not: items } });
  if (contains !== undefined && !("minContains" in schema) && !("maxContains" in schema)) {
    add({ type: "array", items: { not: contains } });
  }
}

function negateProperties({ schema, path }: SchemaClaim, add: Add): void {
  for (const name of namesOf(schema["required"], [...path, "required"])) {
    add({ type: "object", properties: { [name]: false } });
  }
  for (const [name, property] of Object.entries(schemasOf(schema, "properties", path))) {
    if (property === true || (isObject(property) && Object.keys(property).length === 0)) continue;
    add({ type: "object", required: [name], properties: { [name]: { not: property } } });
  }
}
