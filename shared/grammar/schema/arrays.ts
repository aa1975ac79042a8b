/** Arrays: what all parts of an alternative demand of their items. */
import { choice, EMPTY, repeat, sequence, type Rules } from "../rules/expressions.ts";
import type { Path } from "../rules/grammar-error.ts";
import type { Expression } from "../rules/grammar.ts";
import { COMMA, list } from "../text/json.ts";
import type { Alternative, Part } from "./alternatives.ts";
import type { Claim, Document } from "./document.ts";
import { countOf, unsupported } from "./keywords.ts";

export interface ArrayContext {
  readonly document: Document;
  readonly rules: Rules;
  /** The values in which all claims hold; null if there is none. */
  compile(claims: readonly Claim[], path: Path): Expression | null;
  /** The values of the claims one by one; null if they are no short list. */
  constants(claims: readonly Claim[]): readonly Expression[] | null;
}

export interface ArrayDemand {
  readonly parts: readonly ArrayPart[];
  /** Items with schemas of their own, at most. */
  readonly first: number;
  readonly min: number;
  readonly max: number | null;
  /** The path of `uniqueItems`; null without it. */
  readonly unique: Path | null;
  readonly contains: readonly Contains[];
}

interface ArrayPart {
  readonly claim: Part["claim"];
  /** The keyword and the count of the first items' schemas, and the keyword for the others. */
  readonly prefix: string;
  readonly first: number;
  readonly rest: string | null;
}

interface Contains {
  readonly claim: Claim;
  readonly path: Path;
  readonly min: number;
  readonly max: number | null;
}

/** @throws GrammarError */
export function arrayDemand(alternative: Alternative, document: Document): ArrayDemand {
  const demand = {
    parts: [] as ArrayPart[],
    contains: [] as Contains[],
    unique: null as Path | null,
  };
  let [first, min, max] = [0, 0, Infinity];
  for (const { claim, evaluated } of alternative) {
    if (evaluated) continue;
    const { schema, path } = claim;
    const part = arrayPart(claim);
    demand.parts.push(part);
    first = Math.max(first, part.first);
    min = Math.max(min, countOf(schema, "minItems", path) ?? 0);
    max = Math.min(max, countOf(schema, "maxItems", path) ?? Infinity);
    if (schema["uniqueItems"] === true) demand.unique = [...path, "uniqueItems"];
    if (!("contains" in schema)) continue;
    demand.contains.push({
      claim: document.child(claim, ["contains"]),
      path: [...path, "contains"],
      min: countOf(schema, "minContains", path) ?? 1,
      max: countOf(schema, "maxContains", path),
    });
  }
  return { ...demand, first, min, max: max === Infinity ? null : max };
}

function arrayPart(claim: Part["claim"]): ArrayPart {
  const { schema, path } = claim;
  const prefix = "prefixItems" in schema ? "prefixItems" : "items";
  const items = schema[prefix];
  if ("prefixItems" in schema && !Array.isArray(items)) {
    throw unsupported([...path, "prefixItems"], "must be an array of schemas");
  }
  const first = Array.isArray(items) ? items.length : 0;
  const rest = Array.isArray(schema["items"]) ? "additionalItems" : "items";
  return { claim, prefix, first, rest: rest in schema ? rest : null };
}

/** The claims about the item with an index; all further items for an index from `first` on. */
export function itemClaims({ parts }: ArrayDemand, index: number, document: Document): Claim[] {
  return parts.flatMap(({ claim, prefix, first, rest }) => {
    if (index < first) return [document.child(claim, [prefix, String(index)])];
    return rest === null ? [] : [document.child(claim, [rest])];
  });
}

/** Null if there is no such array. @throws GrammarError */
export function arrayExpression(
  demand: ArrayDemand,
  path: Path,
  context: ArrayContext,
): Expression | null {
  const { max, unique, contains } = demand;
  if (unique && (max === null || max > 1)) return uniqueArray(demand, unique, path, context);
  const wanted = contains.filter(({ min, max }) => min > 0 || max !== null);
  if (wanted.length > 0) return containingArray(demand, wanted, path, context);
  return plainArray(demand, path, context);
}

function plainArray(demand: ArrayDemand, path: Path, context: ArrayContext): Expression | null {
  const { document } = context;
  const firstMax = Math.min(demand.first, demand.max ?? Infinity);
  const items: Expression[] = [];
  for (let i = 0; i < firstMax; i++) {
    const item = context.compile(itemClaims(demand, i, document), [...path, "items", String(i)]);
    if (item === null) break;
    items.push(item);
  }
  const isCut = items.length < firstMax;
  const hasRest = !isCut && (demand.max === null || demand.max > items.length);
  const rest = hasRest
    ? context.compile(itemClaims(demand, demand.first, document), [...path, "items"])
    : null;
  const { min } = demand;
  const max = rest === null ? items.length : demand.max;
  if (max !== null && max < min) return null;
  if (items.length === 0) return sequence("[", rest === null ? EMPTY : list(rest, min, max), "]");
  return sequence("[", tuple(items, rest, min, max, context.rules, path), "]");
}

/** Items that have schemas of their own, and then others. */
function tuple(
  items: readonly Expression[],
  rest: Expression | null,
  min: number,
  max: number | null,
  rules: Rules,
  path: Path,
): Expression {
  const count = items.length;
  let tail: Expression = EMPTY;
  if (rest !== null) {
    const more = max === null ? null : max - count;
    tail = repeat(sequence(COMMA, rest), Math.max(0, min - count), more);
  }
  for (let i = count - 1; i >= min; i--) {
    tail = choice([EMPTY, rules.add(sequence(i === 0 ? EMPTY : COMMA, items[i]!, tail), path)]);
  }
  const first = items.slice(0, min).flatMap((item, i) => (i === 0 ? [item] : [COMMA, item]));
  return sequence(...first, tail);
}

/** Arrays of constants without repetition: in any order if there are few constants, else in their own order. */
const ANY_ORDER_MAX = 6;
const UNIQUE_MAX = 200;

function uniqueArray(
  demand: ArrayDemand,
  at: Path,
  path: Path,
  context: ArrayContext,
): Expression | null {
  const { rules, document } = context;
  const values =
    demand.first === 0 && demand.contains.length === 0
      ? context.constants(itemClaims(demand, 0, document))
      : null;
  if (values === null || values.length > UNIQUE_MAX) {
    throw unsupported(at, "is supported for arrays of at most one item, and of constants");
  }
  const { min } = demand;
  const max = Math.min(values.length, demand.max ?? Infinity);
  if (min > max) return null;
  const isAnyOrder = values.length <= ANY_ORDER_MAX;
  const written = new Map<string, Expression>();
  /** @param used the values that may not come again, as bits or as all before an index */
  const rest = (used: number, count: number): Expression => {
    // In any order, the bits tell the count, too.
    const key = `${used} ${isAnyOrder ? 0 : Math.min(count, demand.max === null ? min : max)}`;
    const known = written.get(key);
    if (known !== undefined) return known;
    rules.spend(4 + values.length, path);
    const options: Expression[] = count >= min ? ["]"] : [];
    for (const [i, value] of values.entries()) {
      const isUsed = isAnyOrder ? ((used >>> i) & 1) === 1 : i < used;
      if (isUsed || count >= max) continue;
      const next = rest(isAnyOrder ? used | (1 << i) : i + 1, count + 1);
      options.push(sequence(count === 0 ? EMPTY : COMMA, value, next));
    }
    const rule = rules.add(choice(options), path);
    written.set(key, rule);
    return rule;
  };
  return sequence("[", rest(0, 0));
}

/** Counts of items up to which `contains` is written out. */
const COUNT_MAX = 32;

/** Arrays in which some items match another schema, too: any items, and the matching ones at any places. */
function containingArray(
  demand: ArrayDemand,
  [wanted, ...others]: readonly Contains[],
  path: Path,
  context: ArrayContext,
): Expression | null {
  const { document, rules } = context;
  const { claim, min: matches, max: matchesMax, path: at } = wanted!;
  const { min, max } = demand;
  if (others.length > 0 || demand.first > 0 || matches > COUNT_MAX || min > COUNT_MAX) {
    throw unsupported(at, "is not supported with these other keywords");
  }
  if (max !== null && max > COUNT_MAX) throw unsupported(at, "is not supported with this maxItems");
  const claims = itemClaims(demand, 0, document);
  const any = context.compile(claims, [...path, "items"]);
  const match = context.compile([...claims, claim], at);
  const not = { ...claim, isNegated: true };
  // With a maximum, the other items must not match.
  const other = matchesMax === null ? any : context.compile([...claims, not], at);
  const written = new Map<string, Expression>();
  const last = max ?? min;
  const open: (() => void)[] = [];
  const rest = (found: number, count: number): Expression => {
    const key = `${found} ${count}`;
    const known = written.get(key);
    if (known !== undefined) return known;
    rules.spend(8, path);
    const { reference, define } = rules.reserve(path);
    written.set(key, reference);
    open.push(() => {
      const options: Expression[] = found >= matches && count >= min ? ["]"] : [];
      const next = max === null ? Math.min(count + 1, Math.max(1, last)) : count + 1;
      const separator = count === 0 ? EMPTY : COMMA;
      const limit = matchesMax ?? matches;
      if (max === null || count < max) {
        if (other !== null && (matchesMax !== null || found >= matches || any !== null)) {
          options.push(sequence(separator, other, rest(found, next)));
        }
        if (match !== null && found < limit) {
          options.push(sequence(separator, match, rest(found + 1, next)));
        }
      }
      define(choice(options));
    });
    return reference;
  };
  const root = rest(0, 0);
  for (let write = open.pop(); write; write = open.pop()) write();
  return sequence("[", root);
}
