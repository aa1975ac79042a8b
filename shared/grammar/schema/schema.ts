/**
 * Compiles JSON Schemas to grammars. Every text of the grammar is valid: a keyword that a grammar cannot hold is refused. The grammar
 * allows less than the schema: properties come in the order of their declaration, before those that are not declared.
 *
 * This is the main file of the folder. Keywords that combine schemas are resolved first (alternatives.ts, negation.ts). What is left is
 * merged to one demand for each type, and written as an expression (strings.ts, numbers.ts, arrays.ts, objects.ts).
 */
import { LIMITS } from "../../api/limits.ts";
import { choice, type Rules } from "../rules/expressions.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import type { Expression } from "../rules/grammar.ts";
import { anyValue } from "../text/json.ts";
import type { Meter } from "../text/meter.ts";
import { Patterns } from "../text/patterns.ts";
import type { TextDfa } from "../text/text-dfa.ts";
import { Alternatives, type Alternative } from "./alternatives.ts";
import { arrayDemand, arrayExpression } from "./arrays.ts";
import { Constants } from "./constants.ts";
import { Document, isObject, type Claim } from "./document.ts";
import { Emptiness } from "./emptiness.ts";
import { allowedTypes } from "./allowed-types.ts";
import { APPLICATORS, KEYWORDS, UNSUPPORTED, unsupported, type Type } from "./keywords.ts";
import { numberDemand, numberExpression } from "./numbers.ts";
import { objectDemand, objectExpression } from "./objects.ts";
import { lengthDfa, stringDemand, stringDfa, stringExpression } from "./strings.ts";
import { Validator } from "./valid.ts";
import { valueExpression, type Value } from "./values.ts";

/** Keywords that are read in one step. */
const KEYWORDS_PER_STEP = 8;

/**
 * Steps up to the expression, which cannot be done in parts. A schema that needs more would not fit its automaton into the rest: that
 * takes two to five times as many.
 */
const EXPRESSION_STEPS_MAX = LIMITS.grammarStepsMax / 2;

/** A rule that is being written, and whether it refers to itself. */
interface Compiling {
  reserved: ReturnType<Rules["reserve"]> | null;
}

export class SchemaGrammar {
  readonly document: Document;
  readonly rules: Rules;
  readonly patterns: Patterns;
  readonly isClosed: boolean;
  readonly #alternatives: Alternatives;
  readonly #validator: Validator;
  /** By the schemas that all must hold. */
  readonly #known = new Map<string, Expression | null | Compiling>();
  /** Strings by what is demanded of them. */
  readonly #strings = new Map<string, Expression | null>();
  readonly #ids = new Map<unknown, number>();
  #anyValue: ReturnType<typeof anyValue> | null = null;
  #depth = 0;
  /** The first part that allows no value, for the error if the whole schema allows none. */
  #empty: Path | null = null;
  /** The first alternative that a negation left out, for the same error. */
  #leftOut: GrammarError | null = null;

  /**
   * @param at keys from the top of the request to the schema
   * @param options.isClosed whether objects that declare properties have no others, unless a keyword speaks of them
   */
  constructor(schema: unknown, rules: Rules, at: Path, { isClosed = false } = {}) {
    this.isClosed = isClosed || rules.isSmall;
    this.document = new Document(schema, at);
    this.rules = rules;
    this.patterns = new Patterns(rules);
    const constants = new Constants(rules);
    this.#validator = new Validator(this.document, this.patterns, rules, constants);
    const emptiness = new Emptiness(this.document, this.#validator, (claims) =>
      this.#alternatives.wholeOfAll(claims),
    );
    this.#alternatives = new Alternatives(
      this.document,
      constants,
      (steps, path) => rules.spend(steps, path),
      (a, b) => emptiness.isEmpty([...a, ...b]),
    );
  }

  /** @throws GrammarError with the path of the keyword */
  root(): Expression {
    const { top } = this.document;
    const expression = this.rules.budget.within(EXPRESSION_STEPS_MAX, () =>
      this.compile([top], top.path),
    );
    if (expression !== null) return expression;
    throw this.#leftOut ?? new GrammarError(this.#empty ?? top.path, "allows no value");
  }

  /** The values in which all claims hold, as a reference to a rule or a text; null if there is none. */
  compile(claims: readonly Claim[], path: Path): Expression | null {
    const flat = this.#flattened(claims);
    if (flat === null) return this.#nothing(path);
    this.rules.spend(1 + flat.length, path);
    if (flat.length === 0) return (this.#anyValue ??= anyValue(this.rules, path)).value;
    const key = flat.map((claim) => this.#idOf(claim)).join();
    const known = this.#known.get(key);
    if (known !== undefined) {
      if (known === null || typeof known !== "object" || !("reserved" in known)) return known;
      return (known.reserved ??= this.rules.reserve(path)).reference;
    }
    if (++this.#depth > LIMITS.schemaDepthMax) {
      const message = `is nested too deep: at most ${LIMITS.schemaDepthMax} schemas within each other`;
      throw new GrammarError(path, message);
    }
    const compiling: Compiling = { reserved: null };
    this.#known.set(key, compiling);
    const at = flat[0]!.path;
    const expression = this.#union(flat, at);
    this.#depth--;
    const result = this.#finished(expression, compiling, at);
    this.#known.set(key, result);
    return result;
  }

  #finished(expression: Expression | null, { reserved }: Compiling, path: Path): Expression | null {
    if (!reserved)
      return expression === null ? this.#nothing(path) : this.rules.add(expression, path);
    reserved.define(expression ?? choice([]));
    return expression === null ? this.#nothing(path) : reserved.reference;
  }

  #nothing(path: Path): null {
    this.#empty ??= path;
    return null;
  }

  /** Follows references and drops schemas that allow every value; null if one allows none. */
  #flattened(claims: readonly Claim[]): Claim[] | null {
    const flat = new Map<string, Claim>();
    const open = [...claims].toReversed();
    let [followed, keywordCount] = [0, 0];
    for (let claim = open.pop(); claim; claim = open.pop()) {
      const { schema, isNegated, path } = claim;
      if (typeof schema === "boolean") {
        if (schema === isNegated) return null;
        continue;
      }
      if (isObject(schema) && !isNegated) {
        const all = Object.keys(schema);
        keywordCount += all.length;
        const keywords = all.filter(isAssertion);
        if (keywords.length === 0) continue;
        if (keywords.length === 1 && keywords[0] === "$ref") {
          if (++followed > 100) throw new GrammarError(path, "refers to itself without end");
          open.push(this.document.target(claim));
          continue;
        }
      }
      flat.set(this.#idOf(claim), claim);
    }
    this.rules.spend(Math.floor(keywordCount / KEYWORDS_PER_STEP), claims[0]?.path ?? []);
    return [...flat.values()];
  }

  #idOf({ schema, isNegated }: Claim): string {
    const id = this.#ids.get(schema) ?? this.#ids.size;
    this.#ids.set(schema, id);
    return `${id}${isNegated ? "!" : ""}`;
  }

  #union(claims: readonly Claim[], path: Path): Expression | null {
    const [only] = claims;
    const isUnion =
      claims.length === 1 &&
      !only!.isNegated &&
      isObject(only!.schema) &&
      Object.keys(only!.schema).filter(isAssertion).join() === "anyOf";
    const options = isUnion
      ? this.#alternatives
          .branches(only!, "anyOf")
          .map((branch) => this.compile([branch], branch.path))
      : this.#alternatives.ofAll(claims).map((parts) => this.#alternative(parts, path));
    const possible = options.filter((option) => option !== null);
    return possible.length === 0 ? null : choice(possible);
  }

  #alternative(parts: Alternative, path: Path): Expression | null {
    this.rules.spend(1 + parts.length, path);
    if (parts.length === 0) return (this.#anyValue ??= anyValue(this.rules, path)).value;
    const values = this.#validator.constants(parts);
    if (values) {
      const expressions = values.map(valueExpression);
      return expressions.length === 0 ? null : choice(expressions);
    }
    const { types, implied } = allowedTypes(parts);
    // Without `type`, the types that the keywords are about are meant.
    const first = implied.length > 0 ? implied : types;
    return this.#typed(first, parts, path) ?? this.#typed(types, parts, path);
  }

  #typed(types: readonly Type[], parts: Alternative, path: Path): Expression | null {
    const options = types.map((type) => {
      const expression = this.#ofType(type, parts, path);
      return expression && this.rules.add(expression, path);
    });
    const possible = options.filter((option) => option !== null);
    return possible.length === 0 ? null : choice(possible);
  }

  #ofType(type: Type, parts: Alternative, path: Path): Expression | null {
    switch (type) {
      case "null":
        return "null";
      case "boolean":
        return choice(["true", "false"]);
      case "number":
        return numberExpression(numberDemand(parts, path), this.rules);
      case "string":
        return this.#string(parts, path);
      case "array":
        return arrayExpression(arrayDemand(parts, this.document), path, this);
      case "object": {
        const demand = objectDemand(parts, this.document);
        return objectExpression(demand, path, this);
      }
    }
  }

  #string(parts: Alternative, path: Path): Expression | null {
    const demand = stringDemand(parts, path);
    const { min, max, conditions, notStrings } = demand;
    const sources = conditions.map(({ source, isNegated }) => [source, isNegated]);
    const key = JSON.stringify([min, max, sources, notStrings]);
    const known = this.#strings.get(key);
    if (known !== undefined) return known;
    const expression = stringExpression(demand, this.rules, this.patterns);
    const result = expression && this.rules.add(expression, demand.path);
    this.#strings.set(key, result);
    return result;
  }

  leaveOut(error: GrammarError): void {
    this.#leftOut ??= error;
  }

  isValidName(name: string, claim: Claim): boolean {
    return this.#validator.isValid(name, claim);
  }

  /** The strings in which all claims hold. */
  names(claims: readonly Claim[]) {
    const alternatives = this.#alternatives
      .ofAll(claims)
      .filter((parts) => allowedTypes(parts).types.includes("string"));
    const constants = alternatives.map((parts) => this.#validator.constants(parts));
    if (constants.every((values) => values !== null)) {
      const listed = constants.flat().filter((value) => typeof value === "string");
      return { demands: [], listed };
    }
    if (constants.some((values) => values !== null)) {
      throw unsupported(claims[0]!.path, "is not supported with constants beside other names");
    }
    const demands = alternatives.map((parts) => stringDemand(parts, claims[0]!.path));
    return { demands, listed: null };
  }

  automatonOf(demand: ReturnType<typeof stringDemand>, meter: Meter): TextDfa {
    return lengthDfa(stringDfa(demand, this.patterns, meter), demand, meter);
  }

  /** The constants of the claims one by one; null if they allow other values. */
  constants(claims: readonly Claim[]): readonly Expression[] | null {
    const all: Value[] = [];
    for (const parts of this.#alternatives.ofAll(claims)) {
      const values = this.#validator.constants(parts) ?? fewValues(parts);
      if (!values) return null;
      all.push(...values);
    }
    const texts = new Set(all.map((value) => JSON.stringify(valueExpression(value))));
    return Array.from(texts, (text) => JSON.parse(text) as Expression);
  }
}

/** The values of an alternative that allows only null and booleans; null for others. */
function fewValues(parts: Alternative): readonly Value[] | null {
  const { types } = allowedTypes(parts);
  const values = types.flatMap<Value | undefined>((type) =>
    type === "null" ? [null] : type === "boolean" ? [true, false] : [undefined],
  );
  return values.includes(undefined) ? null : (values as Value[]);
}

const OTHERS = new Set<string>([...APPLICATORS, ...UNSUPPORTED, "type", "enum", "const"]);
const isAssertion = (keyword: string) => Object.hasOwn(KEYWORDS, keyword) || OTHERS.has(keyword);
