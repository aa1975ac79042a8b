/** Strings: lengths, patterns and formats, which all must hold. */
import { EMPTY, repeat, sequence, type Rules } from "../rules/expressions.ts";
import type { Path } from "../rules/grammar-error.ts";
import type { Expression } from "../rules/grammar.ts";
import { ANY_CHARACTER, IN_JSON } from "../text/characters.ts";
import { CHARACTER, quoted } from "../text/json.ts";
import { meterOf, type Meter } from "../text/meter.ts";
import type { Patterns } from "../text/patterns.ts";
import { STATES_MAX, tooManyStates, type TextDfa } from "../text/text-dfa.ts";
import { intersection, lengthsOf } from "../text/text-product.ts";
import { textOfLength } from "../text/text-rules.ts";
import { wordsDfa } from "../text/words.ts";
import type { Alternative } from "./alternatives.ts";
import { FORMATS, UNSUPPORTED_FORMATS } from "./formats.ts";
import { countOf, unsupported } from "./keywords.ts";

interface Condition {
  readonly source: string;
  readonly path: Path;
  readonly isNegated: boolean;
}

/** The demands of all parts of one alternative on a string. */
export interface StringDemand {
  readonly min: number;
  readonly max: number | null;
  readonly conditions: readonly Condition[];
  readonly notStrings: readonly string[];
  readonly path: Path;
}

/** @throws GrammarError */
export function stringDemand(parts: Alternative, path: Path): StringDemand {
  let [min, max] = [0, Infinity];
  const conditions: Condition[] = [];
  let at = path;
  for (const { claim, notPatterns = [] } of parts) {
    const { schema, path } = claim;
    const { pattern, format } = schema;
    min = Math.max(min, countOf(schema, "minLength", path) ?? 0);
    max = Math.min(max, countOf(schema, "maxLength", path) ?? Infinity);
    if (pattern !== undefined) {
      at = [...path, "pattern"];
      if (typeof pattern !== "string") throw unsupported(at, "must be a regular expression");
      conditions.push({ source: pattern, path: at, isNegated: false });
    }
    if (typeof format === "string") {
      const source = FORMATS.get(format);
      if (UNSUPPORTED_FORMATS.has(format)) throw unsupported([...path, "format"]);
      if (source) conditions.push({ source, path: [...path, "format"], isNegated: false });
    }
    for (const source of notPatterns) conditions.push({ source, path, isNegated: true });
  }
  const notStrings = parts.flatMap(({ notStrings = [] }) => [...notStrings]);
  return { min, max: max === Infinity ? null : max, conditions, notStrings, path: at };
}

/** Null if there is no such string. @throws GrammarError */
export function stringExpression(
  demand: StringDemand,
  rules: Rules,
  patterns: Patterns,
): Expression | null {
  const { min, max, conditions, notStrings } = demand;
  if (max !== null && max < min) return null;
  if (conditions.length === 0 && notStrings.length === 0) {
    return quoted(repeat(rules.add(CHARACTER, demand.path), min, max));
  }
  const [only] = conditions;
  if (conditions.length === 1 && notStrings.length === 0 && !only!.isNegated) {
    const direct = directExpression(only!, demand, rules, patterns);
    if (direct !== null) return quoted(direct);
  }
  const meter = meterOf(rules, demand.path);
  const dfa = stringDfa(demand, patterns, meter);
  const lengths = lengthsOf(dfa);
  if (!dfa.states.some(({ outcome }) => outcome > 0)) return null;
  const bounds = {
    min: lengths.min >= min ? 0 : min,
    max: max !== null && lengths.max <= max ? null : max,
  };
  return quoted(textOfLength(dfa, bounds, IN_JSON, { rules, meter }));
}

/** The expression of one pattern that is the whole string, if no automaton is needed. */
function directExpression(
  { source, path }: Condition,
  { min, max }: StringDemand,
  rules: Rules,
  patterns: Patterns,
): Expression | null {
  const regex = patterns.regex(source, path);
  if (min === 0 && max === null) return regex.expression(IN_JSON, "anywhere");
  const { counted } = regex;
  if (counted === null) return null;
  const [low, high] = [Math.max(min, counted.min), Math.min(max ?? Infinity, counted.max)];
  const character = IN_JSON(counted.set);
  if (high < low || character === null) return null;
  if (high === 0) return EMPTY;
  return sequence(repeat(rules.add(character, path), low, high === Infinity ? null : high));
}

/** The automaton of the strings, whatever their lengths. */
export function stringDfa(
  { conditions, notStrings }: StringDemand,
  patterns: Patterns,
  meter: Meter,
): TextDfa {
  const positive: TextDfa[] = [];
  const negative: TextDfa[] = [];
  for (const { source, path, isNegated } of conditions) {
    // Too few texts are allowed for a pattern, but not for a negated one.
    (isNegated ? negative : positive).push(patterns.dfa(source, path, isNegated));
  }
  if (notStrings.length > 0) negative.push(wordsDfa(notStrings, meter));
  return intersection(positive, negative, meter);
}

/** Longest string that `lengthDfa` counts. */
const COUNTED_MAX = 64;

/** The texts of an automaton that have the demanded length; if that is long, only shorter ones. */
export function lengthDfa(dfa: TextDfa, { min, max }: StringDemand, meter: Meter): TextDfa {
  if (min === 0 && max === null) return dfa;
  const last = Math.max(min, Math.min(max ?? min, COUNTED_MAX));
  if (last >= STATES_MAX) throw tooManyStates(meter);
  meter.spend(last);
  const lengths = Array.from({ length: last + 1 }, (_, count) => ({
    edges:
      count < last
        ? [{ set: ANY_CHARACTER, to: count + 1 }]
        : max === null
          ? [{ set: ANY_CHARACTER, to: count }]
          : [],
    outcome: Number(count >= min),
  }));
  return intersection([dfa, { states: lengths }], [], meter);
}
