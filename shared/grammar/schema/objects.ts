/** Objects: what all parts of an alternative demand of their properties. */
import { keysInOrder } from "../../api/json-source.ts";
import type { Rules } from "../rules/expressions.ts";
import type { GrammarError, Path } from "../rules/grammar-error.ts";
import type { Expression } from "../rules/grammar.ts";
import { ANY_CHARACTER } from "../text/characters.ts";
import { meterOf, type Meter } from "../text/meter.ts";
import type { Patterns } from "../text/patterns.ts";
import type { TextDfa } from "../text/text-dfa.ts";
import { product } from "../text/text-product.ts";
import type { Alternative, Part } from "./alternatives.ts";
import type { Claim, Document } from "./document.ts";
import { countOf, namesOf, schemasOf, unsupported } from "./keywords.ts";
import { ObjectRules, type Property } from "./object-rules.ts";
import type { StringDemand } from "./strings.ts";

/** Steps of a property, beside those of its schema. */
const PROPERTY_STEPS = 8;

/** Other parts of the compiler that objects need. */
export interface ObjectContext {
  readonly document: Document;
  readonly rules: Rules;
  readonly patterns: Patterns;
  /** Whether objects that declare properties have no others, unless a keyword speaks of them. */
  readonly isClosed: boolean;
  /** The values in which all claims hold; null if there is none. */
  compile(claims: readonly Claim[], path: Path): Expression | null;
  /** Notes what is missing because a negation could not be written. */
  leaveOut(error: GrammarError): void;
  /** Whether a name is valid. */
  isValidName(name: string, claim: Claim): boolean;
  /** The strings in which all claims hold: any of the demands, or one of the listed names. */
  names(claims: readonly Claim[]): {
    readonly demands: readonly StringDemand[];
    readonly listed: readonly string[] | null;
  };
  automatonOf(demand: StringDemand, meter: Meter): TextDfa;
}

export interface ObjectDemand {
  readonly parts: readonly ObjectPart[];
  /** In the order in which they are written. */
  readonly names: readonly string[];
  readonly required: ReadonlySet<string>;
  readonly min: number;
  /** The part that demands this minimum; null if it is 0. */
  readonly minPart: Part | null;
  readonly max: number | null;
  /** The claims about names. */
  readonly nameClaims: readonly Claim[];
}

/** The properties of one part of the alternative. */
interface ObjectPart {
  readonly claim: Part["claim"];
  readonly names: ReadonlySet<string>;
  readonly patterns: readonly string[];
  /** The keyword for properties that are neither named nor match a pattern. */
  readonly rest: string | null;
  /** Parts whose properties count as evaluated: `rest` is not for them. */
  readonly evaluated: readonly ObjectPart[];
}

/** @throws GrammarError */
export function objectDemand(alternative: Alternative, document: Document): ObjectDemand {
  const parts = alternative.map(objectPart);
  const required = alternative.flatMap(({ claim: { schema, path } }) =>
    namesOf(schema["required"], [...path, "required"]),
  );
  const declared = alternative.flatMap(({ claim: { schema, path }, evaluated }) =>
    evaluated ? [] : keysInOrder(schemasOf(schema, "properties", path)),
  );
  const nameClaims: Claim[] = [];
  let [min, max] = [0, Infinity];
  let minPart: Part | null = null;
  for (const part of alternative) {
    const { claim, evaluated } = part;
    if (evaluated) continue;
    const least = countOf(claim.schema, "minProperties", claim.path) ?? 0;
    if (least > min) [min, minPart] = [least, part];
    max = Math.min(max, countOf(claim.schema, "maxProperties", claim.path) ?? Infinity);
    if ("propertyNames" in claim.schema) nameClaims.push(document.child(claim, ["propertyNames"]));
  }
  const names = [...new Set([...declared, ...required])];
  const bound = max === Infinity ? null : max;
  return { parts, names, required: new Set(required), min, minPart, max: bound, nameClaims };
}

function objectPart({ claim, evaluated }: Part): ObjectPart {
  const { schema, path } = claim;
  const keyword = evaluated ? "unevaluatedProperties" : "additionalProperties";
  return {
    claim,
    names: new Set(evaluated ? [] : Object.keys(schemasOf(schema, "properties", path))),
    patterns: evaluated ? [] : keysInOrder(schemasOf(schema, "patternProperties", path)),
    rest: keyword in schema ? keyword : null,
    evaluated: evaluated?.map(objectPart) ?? [],
  };
}

/** The claims about the value of a property, by whether it matches each pattern. */
export function propertyClaims(
  { parts }: ObjectDemand,
  name: string | null,
  isMatch: (pattern: string, part: ObjectPart) => boolean,
  document: Document,
): Claim[] {
  return parts.flatMap((part) => {
    const { claim, names, patterns, rest } = part;
    const isNamed = name !== null && names.has(name);
    const matching = patterns.filter((pattern) => isMatch(pattern, part));
    const claims = matching.map((pattern) => document.child(claim, ["patternProperties", pattern]));
    if (isNamed) claims.unshift(document.child(claim, ["properties", name]));
    const isRest = rest !== null && claims.length === 0 && !isEvaluated(part, name, isMatch);
    return isRest ? [document.child(claim, [rest])] : claims;
  });
}

function isEvaluated(
  { evaluated }: ObjectPart,
  name: string | null,
  isMatch: (pattern: string, part: ObjectPart) => boolean,
): boolean {
  return evaluated.some((part) => {
    const isNamed = name !== null && part.names.has(name);
    const isMatched = part.patterns.some((pattern) => isMatch(pattern, part));
    return isNamed || isMatched || part.rest !== null;
  });
}

/** Null if there is no such object. @throws GrammarError */
export function objectExpression(
  demand: ObjectDemand,
  path: Path,
  context: ObjectContext,
): Expression | null {
  const { rules } = context;
  const { min, max } = demand;
  const meter = meterOf(rules, path);
  const allowed = demand.nameClaims.length > 0 ? context.names(demand.nameClaims) : null;
  const properties = declaredProperties(demand, allowed?.listed ?? [], path, context);
  if (!properties) return null;
  const declared = properties.filter(({ value }) => value !== null).length;
  const isUnspoken = demand.parts.every(
    ({ rest, patterns }) => rest === null && patterns.length === 0,
  );
  const canBeClosed = isUnspoken && properties.length > min && declared >= min;
  if (canBeClosed) rules.canBeSmaller = true;
  const isClosed = context.isClosed && canBeClosed;
  const others = isClosed ? NO_OTHERS : otherKeys(demand, path, allowed, context);
  if (!canReachMin(demand, declared, others, context)) return null;
  const content = { properties, otherKeys: others.keys, otherValues: others.values, min, max };
  return new ObjectRules(content, rules, meter).expression();
}

/** The properties whose names the schema has; null if a required one allows no value. */
function declaredProperties(
  demand: ObjectDemand,
  listed: readonly string[],
  path: Path,
  context: ObjectContext,
): Property[] | null {
  const meter = meterOf(context.rules, path);
  const properties: Property[] = [];
  /** Parts that each name is looked up in. */
  const looks = demand.parts.reduce((sum, { evaluated }) => sum + 1 + evaluated.length, 0);
  for (const name of new Set([...demand.names, ...listed])) {
    const isAllowed = demand.nameClaims.every((claim) => context.isValidName(name, claim));
    meter.spend(PROPERTY_STEPS + (looks >>> 2));
    const claims = propertyClaims(demand, name, patternTest(name, context), context.document);
    const value = isAllowed ? context.compile(claims, [...path, "properties", name]) : null;
    const isRequired = demand.required.has(name);
    if (isRequired && value === null) return null;
    properties.push({ name, isRequired, value });
  }
  return properties;
}

/**
 * Whether enough properties can be counted: those that are not declared count as one, because their keys may be equal.
 *
 * @throws GrammarError if only more of them could be enough
 */
function canReachMin(
  { min, minPart, max }: ObjectDemand,
  declared: number,
  others: Others,
  context: ObjectContext,
): boolean {
  if (max !== null && max < min) return false;
  if (others.values.length === 0 || minPart === null) return declared >= min;
  const countable = declared + 1;
  if (countable >= min) return true;
  const { path } = minPart.claim;
  if (minPart.isNegation) {
    context.leaveOut(unsupported([...path, "maxProperties"], "cannot be negated here"));
    return false;
  }
  throw unsupported(
    [...path, "minProperties"],
    `is supported up to ${countable} here: properties that are not declared count as one, because their keys may repeat`,
  );
}

const patternTest =
  (name: string, { patterns }: ObjectContext) =>
  (pattern: string, { claim }: ObjectPart) =>
    patterns.matches(name, pattern, [...claim.path, "patternProperties", pattern]);

interface Others {
  readonly keys: TextDfa;
  readonly values: readonly Expression[];
}
const NO_OTHERS: Others = { keys: { states: [{ edges: [], outcome: 0 }] }, values: [] };
const ANY_KEY: TextDfa = { states: [{ edges: [{ set: ANY_CHARACTER, to: 0 }], outcome: 1 }] };

/** The keys that are not declared, and their values. */
function otherKeys(
  demand: ObjectDemand,
  path: Path,
  allowed: ReturnType<ObjectContext["names"]> | null,
  context: ObjectContext,
): Others {
  if (allowed?.listed) return NO_OTHERS;
  const names = allowed?.demands;
  const { document, rules, patterns } = context;
  const meter = meterOf(rules, path);
  const sources = new Map<string, Path>();
  for (const part of demand.parts.flatMap((part) => [part, ...part.evaluated])) {
    for (const source of part.patterns) {
      sources.set(source, [...part.claim.path, "patternProperties", source]);
    }
  }
  const list = [...sources.keys()];
  const values: Expression[] = [];
  /** By the patterns that match, one bit each: the outcome. */
  const outcomes = new Map<string, number>();
  const outcomeOf = (isMatch: readonly boolean[]): number => {
    const key = isMatch.join();
    const known = outcomes.get(key);
    if (known !== undefined) return known;
    const matches = (pattern: string) => isMatch[list.indexOf(pattern)]!;
    const claims = propertyClaims(demand, null, matches, document);
    const value = context.compile(claims, path);
    const outcome = value === null ? 0 : values.push(value);
    outcomes.set(key, outcome);
    return outcome;
  };
  if (list.length === 0 && !names) {
    return outcomeOf([]) === 0 ? NO_OTHERS : { keys: ANY_KEY, values };
  }
  const dfas = list.map((source) => patterns.dfa(source, sources.get(source)!, true));
  const ofNames = names?.map((name) => context.automatonOf(name, meter)) ?? [ANY_KEY];
  const count = ofNames.length;
  const keys = product(
    [...ofNames, ...dfas],
    (ends) => (ends.slice(0, count).some(Boolean) ? outcomeOf(ends.slice(count)) : 0),
    (states) => states.slice(0, count).every((state) => state < 0),
    meter,
  );
  return { keys, values };
}
