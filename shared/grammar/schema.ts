/**
 * JSON Schemas as grammars. What a grammar cannot hold to is refused by name, so every text that it lets through validates.
 * It lets through less than the schema may: properties come in the order in which they are declared, and objects that
 * declare some have no others.
 */
import type { Expression } from "../grammar.ts";
import { LIMITS } from "../limits.ts";
import { choice, EMPTY, GrammarError, repeat, sequence, type Rules } from "./expressions.ts";
import { anyNumber, anyObject, anyString, anyValue, COLON, COMMA, list, quoted } from "./json.ts";
import { decimals, integers } from "./numbers.ts";
import { IN_JSON, regexExpression } from "./regex.ts";
import {
  ANNOTATIONS,
  checkKeywords,
  count,
  FORMATS,
  isObject,
  typeOf,
  typesOf,
  wholeNumber,
  type Path,
  type Schema,
  type Type,
} from "./schema-keywords.ts";

export class SchemaGrammar {
  readonly #document: unknown;
  readonly #rules: Rules;
  /** Rules of the places that references name. */
  readonly #references = new Map<string, Expression>();
  #anyValue: ReturnType<typeof anyValue> | null = null;

  constructor(document: unknown, rules: Rules) {
    this.#document = document;
    this.#rules = rules;
  }

  /** @throws GrammarError whose path leads into the schema */
  root(): Expression {
    return this.#value(this.#document, [], 0);
  }

  #any() {
    return (this.#anyValue ??= anyValue(this.#rules));
  }

  #value(schema: unknown, path: Path, depth: number): Expression {
    if (depth > LIMITS.schemaDepthMax) {
      throw new GrammarError(path, `is nested deeper than ${LIMITS.schemaDepthMax} schemas`);
    }
    if (schema === true) return this.#any().value;
    if (schema === false) throw new GrammarError(path, "allows no value");
    if (!isObject(schema)) throw new GrammarError(path, "must be a schema: an object or true");
    if ("$ref" in schema) return this.#reference(schema, path);
    if ("const" in schema) return this.#constants([schema["const"]], schema, "const", path);
    if ("enum" in schema) {
      const values = schema["enum"];
      if (!Array.isArray(values) || values.length === 0) {
        throw new GrammarError([...path, "enum"], "must be an array with at least one value");
      }
      return this.#constants(values, schema, "enum", path);
    }
    if ("anyOf" in schema) return this.#anyOf(schema, path, depth);
    if ("allOf" in schema) return this.#allOf(schema, path, depth);
    const types = typesOf(schema, path);
    if (types === null) {
      checkKeywords(schema, ANNOTATIONS, path);
      return this.#any().value;
    }
    checkKeywords(schema, types, path);
    return choice(types.map((type) => this.#rules.add(this.#typed(type, schema, path, depth + 1))));
  }

  #typed(type: Type, schema: Schema, path: Path, depth: number): Expression {
    switch (type) {
      case "null":
        return "null";
      case "boolean":
        return choice(["true", "false"]);
      case "integer":
      case "number":
        return numeric(type, schema, path);
      case "string":
        return text(schema, path, this.#rules);
      case "array":
        return this.#array(schema, path, depth);
      case "object":
        return this.#object(schema, path, depth);
    }
  }

  #reference(schema: Schema, path: Path): Expression {
    checkKeywords(schema, [...ANNOTATIONS, "$ref"], path);
    const pointer = schema["$ref"];
    const at = [...path, "$ref"];
    if (typeof pointer !== "string" || !/^#(\/[^%]*)?$/.test(pointer)) {
      throw new GrammarError(at, "must point into the schema itself: #, #/$defs/…");
    }
    const known = this.#references.get(pointer);
    if (known) return known;
    const { reference, define } = this.#rules.reserve();
    this.#references.set(pointer, reference);
    const keys = pointer.split("/").slice(1).map(unescapePointer);
    define(this.#value(this.#find(keys, at), keys, 0));
    return reference;
  }

  #find(keys: readonly string[], at: Path): unknown {
    let found = this.#document;
    for (const key of keys) {
      const inside = typeof found === "object" && found !== null && Object.hasOwn(found, key);
      if (!inside) throw new GrammarError(at, "points to nothing");
      found = (found as Schema)[key];
    }
    return found;
  }

  #constants(
    values: readonly unknown[],
    schema: Schema,
    keyword: "const" | "enum",
    path: Path,
  ): Expression {
    checkKeywords(schema, [...ANNOTATIONS, "type", keyword], path);
    const types = typesOf(schema, path);
    for (const value of values) {
      const fits = types === null || types.some((type) => typeOf(value).includes(type));
      if (!fits) throw new GrammarError([...path, keyword], "has a value that type excludes");
    }
    return choice(values.map((value) => JSON.stringify(value)));
  }

  #anyOf(schema: Schema, path: Path, depth: number): Expression {
    checkKeywords(schema, [...ANNOTATIONS, "anyOf"], path);
    const branches = schema["anyOf"];
    const at = [...path, "anyOf"];
    if (!Array.isArray(branches) || branches.length === 0) {
      throw new GrammarError(at, "must be an array with at least one schema");
    }
    const values = branches.map((branch, i) => this.#value(branch, [...at, String(i)], depth + 1));
    return this.#rules.add(choice(values));
  }

  /** Some generators wrap a reference in it. */
  #allOf(schema: Schema, path: Path, depth: number): Expression {
    checkKeywords(schema, [...ANNOTATIONS, "allOf"], path);
    const branches = schema["allOf"];
    const at = [...path, "allOf"];
    if (!Array.isArray(branches) || branches.length !== 1) {
      throw new GrammarError(at, "is supported with exactly one schema", { unsupported: true });
    }
    return this.#value(branches[0], [...at, "0"], depth + 1);
  }

  #array(schema: Schema, path: Path, depth: number): Expression {
    if (schema["uniqueItems"] === true) {
      throw new GrammarError([...path, "uniqueItems"], "is not supported", { unsupported: true });
    }
    const first = this.#firstItems(schema, path, depth);
    const [least, most] = counts(schema, "minItems", "maxItems", path);
    const min = Math.max(0, least - first.length);
    const max = most === null ? null : most - first.length;
    if (max !== null && max < 0) {
      throw new GrammarError([...path, "maxItems"], "must be at least the count of prefixItems");
    }
    // Without a word on them, items beyond the first ones may be anything, and are left out.
    const { items = first.length === 0 || min > 0 } = schema;
    if (items === false && min > 0) {
      throw new GrammarError([...path, "minItems"], "asks for more items than are allowed");
    }
    if (items === false) return sequence("[", ...joined(first), "]");
    const item = this.#rules.add(this.#value(items, [...path, "items"], depth));
    if (first.length === 0) return sequence("[", list(item, min, max), "]");
    return sequence("[", ...joined(first), repeat(sequence(COMMA, item), min, max), "]");
  }

  #firstItems({ prefixItems = [] }: Schema, path: Path, depth: number): Expression[] {
    const at = [...path, "prefixItems"];
    if (!Array.isArray(prefixItems)) throw new GrammarError(at, "must be an array of schemas");
    return prefixItems.map((item, i) => this.#value(item, [...at, String(i)], depth));
  }

  #object(schema: Schema, path: Path, depth: number): Expression {
    const { properties = {}, required = [], additionalProperties = true } = schema;
    if (!isObject(properties)) {
      throw new GrammarError([...path, "properties"], "must be an object of schemas");
    }
    if (!Array.isArray(required) || !required.every((name) => typeof name === "string")) {
      throw new GrammarError([...path, "required"], "must be an array of names");
    }
    const undeclared = required.find((name) => !Object.hasOwn(properties, name));
    if (undeclared !== undefined) {
      throw new GrammarError([...path, "required"], "has a name that is not among properties");
    }
    const names = Object.keys(properties);
    if (names.length > 0) {
      const members = names.map((name) => ({
        isRequired: required.includes(name),
        pair: sequence(
          JSON.stringify(name),
          COLON,
          this.#rules.add(this.#value(properties[name], [...path, "properties", name], depth)),
        ),
      }));
      return sequence("{", this.#members(members), "}");
    }
    if (additionalProperties === false) return "{}";
    if (additionalProperties === true) return this.#any().object;
    const at = [...path, "additionalProperties"];
    return anyObject(this.#rules.add(this.#value(additionalProperties, at, depth)), this.#rules);
  }

  /** Each member at its place, those that may be missing with or without, and commas between those that are there. */
  #members(members: readonly { isRequired: boolean; pair: Expression }[]): Expression {
    let [afterNone, afterSome] = [EMPTY, EMPTY];
    for (const { isRequired, pair } of members.toReversed()) {
      const [first, next] = [sequence(pair, afterSome), sequence(COMMA, pair, afterSome)];
      afterNone = isRequired ? first : this.#rules.add(choice([first, afterNone]));
      afterSome = isRequired ? next : this.#rules.add(choice([next, afterSome]));
    }
    return afterNone;
  }
}

function joined(parts: readonly Expression[]): Expression[] {
  return parts.flatMap((part, i) => (i === 0 ? [part] : [COMMA, part]));
}

function numeric(type: "integer" | "number", schema: Schema, path: Path): Expression {
  const bounds = boundsOf(schema, path, type === "number");
  if (type === "number" && bounds.min === null && bounds.max === null) return anyNumber();
  const pattern = type === "integer" ? integers(bounds) : decimals(bounds);
  if (pattern === null) throw new GrammarError([...path, "minimum"], "leaves no number");
  return regexExpression(pattern, IN_JSON);
}

function boundsOf(schema: Schema, path: Path, isDecimal: boolean) {
  const bound = (keyword: string) => wholeNumber(schema, keyword, path);
  const [least, above] = [bound("minimum"), bound("exclusiveMinimum")];
  const [most, below] = [bound("maximum"), bound("exclusiveMaximum")];
  for (const [keyword, value] of [
    ["exclusiveMinimum", above],
    ["exclusiveMaximum", below],
  ] as const) {
    if (isDecimal && value !== null) {
      const message = "is supported for integers only: use minimum and maximum";
      throw new GrammarError([...path, keyword], message, { unsupported: true });
    }
  }
  const mins = [least, above === null ? null : above + 1].filter((value) => value !== null);
  const maxs = [most, below === null ? null : below - 1].filter((value) => value !== null);
  return {
    min: mins.length === 0 ? null : Math.max(...mins),
    max: maxs.length === 0 ? null : Math.min(...maxs),
  };
}

function text(schema: Schema, path: Path, rules: Rules): Expression {
  const { pattern, format } = schema;
  const [min, max] = counts(schema, "minLength", "maxLength", path);
  const given = [pattern, format, min > 0 || max !== null ? "lengths" : undefined];
  if (given.filter((constraint) => constraint !== undefined).length > 1) {
    const message = "is supported with only one of pattern, format and lengths";
    throw new GrammarError(path, message, { unsupported: true });
  }
  if (pattern !== undefined) return quoted(patternExpression(pattern, [...path, "pattern"]));
  if (format === undefined) return anyString(min, max, rules);
  const known = typeof format === "string" ? FORMATS.get(format) : undefined;
  if (known === undefined) {
    const message = `must be ${[...FORMATS.keys()].join(", ")}: others are not supported`;
    throw new GrammarError([...path, "format"], message, { unsupported: true });
  }
  return quoted(regexExpression(known, IN_JSON));
}

function patternExpression(pattern: unknown, path: Path): Expression {
  if (typeof pattern !== "string") throw new GrammarError(path, "must be a regular expression");
  try {
    return regexExpression(pattern, IN_JSON);
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    const { message, unsupported } = error;
    throw new GrammarError(path, message, { unsupported });
  }
}

function counts(schema: Schema, least: string, most: string, path: Path): [number, number | null] {
  const min = count(schema, least, path) ?? 0;
  const max = count(schema, most, path);
  if (max !== null && max < min) throw new GrammarError([...path, most], `is less than ${least}`);
  return [min, max];
}

const unescapePointer = (key: string) => key.replaceAll("~1", "/").replaceAll("~0", "~");
