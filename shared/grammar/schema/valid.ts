/** Decides whether a constant is valid: values of `enum` must also meet the keywords beside it. */
import { keysInOrder } from "../../api/json-source.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import type { Rules } from "../rules/expressions.ts";
import { Decimal } from "../text/decimal.ts";
import type { Patterns } from "../text/patterns.ts";
import type { Alternative, Part } from "./alternatives.ts";
import type { Constants, Listed } from "./constants.ts";
import { isObject, type Claim, type Document, type Schema } from "./document.ts";
import { FORMATS, INTEGER_FORMATS } from "./formats.ts";
import {
  boundsOf,
  countOf,
  listOf,
  MAX,
  MIN,
  namesOf,
  numberOf,
  requireSupported,
  schemasOf,
  typeOfValue,
  typesOf,
  unsupported,
} from "./keywords.ts";
import { isValueObject, type Value, type ValueObject } from "./values.ts";

const CONSTANTS = ["const", "enum"] as const;
const NUMBER_KEYWORDS = [...MIN, ...MAX, "multipleOf", "format"];
/** Names and members of which a look takes one step. */
const NAMES_PER_STEP = 8;
/** Steps of dividing one number by another, which may have hundreds of digits. */
const DIVISION_STEPS = 8;

/** References followed within each other. */
const DEPTH_MAX = 200;

export class Validator {
  readonly #document: Document;
  readonly #patterns: Patterns;
  readonly #rules: Rules;
  readonly #constants: Constants;
  #depth = 0;
  /** Negations around the present schema: there, too few valid texts would be too many. */
  #negations = 0;

  constructor(document: Document, patterns: Patterns, rules: Rules, constants: Constants) {
    this.#document = document;
    this.#patterns = patterns;
    this.#rules = rules;
    this.#constants = constants;
  }

  /** @throws GrammarError for keywords that cannot be held */
  isValid(value: Value, claim: Claim): boolean {
    const { schema, path, isNegated } = claim;
    this.#rules.spend(1, path);
    if (typeof schema === "boolean") return schema !== isNegated;
    if (!isObject(schema)) throw new GrammarError(path, "must be a schema: an object or true");
    if (++this.#depth > DEPTH_MAX) throw new GrammarError(path, "refers to itself without end");
    requireSupported(schema, path);
    if ("unevaluatedProperties" in schema) throw unsupported([...path, "unevaluatedProperties"]);
    const positive = { ...claim, isNegated: false };
    this.#negations += Number(isNegated);
    const isValid =
      this.#isValidFlat(value, schema, positive) && this.#isValidCombined(value, schema, positive);
    this.#negations -= Number(isNegated);
    this.#depth--;
    return isValid !== isNegated;
  }

  /** The constants that all parts of an alternative allow; null if none of them lists constants. @throws GrammarError */
  constants(parts: Alternative): readonly Value[] | null {
    let shortest: Listed | null = null;
    for (const { claim } of parts) {
      for (const keyword of CONSTANTS) {
        if (!(keyword in claim.schema)) continue;
        const listed = this.#constants.listed(claim.schema, keyword, claim.path);
        if (shortest === null || listed.values.length < shortest.values.length) shortest = listed;
      }
    }
    const isValid = (value: Value) =>
      parts.every((part) => this.#isValidPart(value, part, shortest));
    return shortest?.values.filter(isValid) ?? null;
  }

  spend(steps: number, path: Path): void {
    this.#rules.spend(steps, path);
  }

  matches(text: string, pattern: string, path: Path): boolean {
    return this.#patterns.matches(text, pattern, path);
  }

  /** @param source a list that has the value */
  #isValidPart(
    value: Value,
    { claim, notPatterns = [], notStrings, evaluated }: Part,
    source: Listed | null,
  ): boolean {
    const { schema, path } = claim;
    this.#rules.spend(1, path);
    if (evaluated && typeOfValue(value) === "object") {
      throw unsupported([...path, "unevaluatedProperties"]);
    }
    if (!evaluated && !this.#isValidFlat(value, schema, claim, source)) return false;
    if (typeof value !== "string") return true;
    if (notStrings?.has(value)) return false;
    return !notPatterns.some((pattern) => this.#patterns.matches(value, pattern, path));
  }

  #isValidFlat(value: Value, schema: Schema, claim: Claim, source: Listed | null = null): boolean {
    const { path } = claim;
    const types = typesOf(schema, path);
    if (types && !types.types.has(typeOfValue(value))) return false;
    if (types?.isInteger && value instanceof Decimal && !value.isInteger) return false;
    if (!this.#isListed(value, schema, path, source)) return false;
    if (value instanceof Decimal) {
      if (!isAboutNumbers(schema)) return true;
      if ("multipleOf" in schema) this.#rules.spend(DIVISION_STEPS, path);
      return isValidNumber(value, schema, claim);
    }
    if (typeof value === "string") return this.#isValidString(value, schema, claim);
    if (Array.isArray(value)) return this.#isValidArray(value, schema, claim);
    return !isValueObject(value) || this.#isValidObject(value, schema, claim);
  }

  #isListed(value: Value, schema: Schema, path: Path, source: Listed | null): boolean {
    return CONSTANTS.every((keyword) => {
      if (!(keyword in schema)) return true;
      const listed = this.#constants.listed(schema, keyword, path);
      return listed === source || listed.has(value);
    });
  }

  #isValidCombined(value: Value, schema: Schema, claim: Claim): boolean {
    const count = (keyword: string) =>
      listOf(schema, keyword, claim.path).filter((_, i) =>
        this.#isValidAt(value, claim, keyword, String(i)),
      ).length;
    if ("$ref" in schema && !this.isValid(value, this.#document.target(claim))) return false;
    if ("allOf" in schema && count("allOf") < (schema["allOf"] as unknown[]).length) return false;
    if ("anyOf" in schema && count("anyOf") === 0) return false;
    if (!this.#isValidNegated(value, schema, claim, count)) return false;
    return !isValueObject(value) || this.#isValidDependencies(value, schema, claim);
  }

  /** The keywords that hold if other schemas do not hold. */
  #isValidNegated(
    value: Value,
    schema: Schema,
    claim: Claim,
    count: (keyword: string) => number,
  ): boolean {
    this.#negations++;
    const isAllowed =
      (!("oneOf" in schema) || count("oneOf") === 1) &&
      (!("not" in schema) || !this.#isValidAt(value, claim, "not"));
    const branch = "if" in schema && !this.#isValidAt(value, claim, "if") ? "else" : "then";
    this.#negations--;
    if (!isAllowed) return false;
    if ("if" in schema && branch in schema && !this.#isValidAt(value, claim, branch)) return false;
    return true;
  }

  #isValidAt(value: Value, claim: Claim, ...keys: string[]): boolean {
    return this.isValid(value, this.#document.child(claim, keys));
  }

  #isValidDependencies({ members }: ValueObject, schema: Schema, claim: Claim): boolean {
    return ["dependencies", "dependentRequired", "dependentSchemas"].every((keyword) => {
      const dependencies = schemasOf(schema, keyword, claim.path);
      const names = keysInOrder(dependencies);
      this.#look(names.length, claim);
      return names.every((name) => {
        if (!members.has(name)) return true;
        const dependency = dependencies[name];
        if (!Array.isArray(dependency)) {
          return this.#isValidAt({ members }, claim, keyword, name);
        }
        this.#look(dependency.length, claim);
        return dependency.every((other) => members.has(other as string));
      });
    });
  }

  #isValidArray(items: readonly Value[], schema: Schema, claim: Claim): boolean {
    const { path } = claim;
    if (!isWithin(items.length, schema, "minItems", "maxItems", claim)) return false;
    if (schema["uniqueItems"] === true) {
      this.#look(items.length, claim);
      if (new Set(items.map((item) => this.#constants.key(item))).size < items.length) return false;
    }
    const prefix = "prefixItems" in schema ? "prefixItems" : "items";
    const first = Array.isArray(schema[prefix]) ? (schema[prefix] as unknown[]).length : 0;
    const rest = Array.isArray(schema["items"]) ? "additionalItems" : "items";
    const areValid = items.every((item, i) => {
      if (i < first) return this.#isValidAt(item, claim, prefix, String(i));
      return !(rest in schema) || this.#isValidAt(item, claim, rest);
    });
    if (!areValid || !("contains" in schema)) return areValid;
    const found = items.filter((item) => this.#isValidAt(item, claim, "contains")).length;
    const min = countOf(schema, "minContains", path) ?? 1;
    return found >= min && found <= (countOf(schema, "maxContains", path) ?? Infinity);
  }

  #isValidString(value: string, schema: Schema, claim: Claim): boolean {
    const { path } = claim;
    if (!isWithin(Array.from(value).length, schema, "minLength", "maxLength", claim)) return false;
    const { pattern, format } = schema;
    if (typeof pattern === "string") {
      if (!this.#patterns.matches(value, pattern, [...path, "pattern"])) return false;
    }
    const known = FORMATS.get(String(format));
    if (known === undefined || this.#patterns.matches(value, known, path)) return true;
    // The format may have more texts than are known here.
    if (this.#negations > 0) throw unsupported([...path, "format"]);
    return false;
  }

  #look(count: number, { path }: Claim): void {
    this.#rules.spend(Math.ceil(count / NAMES_PER_STEP), path);
  }

  #isValidObject({ members }: ValueObject, schema: Schema, claim: Claim): boolean {
    const { path } = claim;
    this.#look(members.size, claim);
    if (!isWithin(members.size, schema, "minProperties", "maxProperties", claim)) return false;
    const required = namesOf(schema["required"], [...path, "required"]);
    this.#look(required.length, claim);
    if (!required.every((name) => members.has(name))) return false;
    const properties = schemasOf(schema, "properties", path);
    const patterns = Object.keys(schemasOf(schema, "patternProperties", path));
    this.#look(patterns.length * members.size, claim);
    return [...members].every(([name, value]) => {
      const isDeclared = Object.hasOwn(properties, name);
      if (isDeclared && !this.#isValidAt(value, claim, "properties", name)) return false;
      const matching = patterns.filter((pattern) =>
        this.#patterns.matches(name, pattern, [...path, "patternProperties", pattern]),
      );
      const isValid = matching.every((pattern) =>
        this.#isValidAt(value, claim, "patternProperties", pattern),
      );
      if (!isValid) return false;
      if ("propertyNames" in schema && !this.#isValidAt(name, claim, "propertyNames")) return false;
      const isOther = !isDeclared && matching.length === 0 && "additionalProperties" in schema;
      return !isOther || this.#isValidAt(value, claim, "additionalProperties");
    });
  }
}

/** Whether a keyword, which may also be about other types, can refuse a number. */
const isAboutNumbers = (schema: Schema) =>
  NUMBER_KEYWORDS.some((keyword) => schema[keyword] !== undefined);

function isValidNumber(value: Decimal, schema: Schema, { path }: Claim): boolean {
  const isBelow = boundsOf(schema, MIN, path).some(({ at, isExclusive }) =>
    isExclusive ? value.compare(at) <= 0 : value.compare(at) < 0,
  );
  const isAbove = boundsOf(schema, MAX, path).some(({ at, isExclusive }) =>
    isExclusive ? value.compare(at) >= 0 : value.compare(at) > 0,
  );
  if (isBelow || isAbove) return false;
  const divisor = numberOf(schema, "multipleOf", path);
  if (divisor && !value.isMultipleOf(divisor)) return false;
  const [min, max] = INTEGER_FORMATS.get(String(schema["format"])) ?? [null, null];
  return min === null || (value.floor >= min && value.ceil <= max);
}

function isWithin(
  count: number,
  schema: Schema,
  min: string,
  max: string,
  { path }: Claim,
): boolean {
  return (
    count >= (countOf(schema, min, path) ?? 0) && count <= (countOf(schema, max, path) ?? Infinity)
  );
}
