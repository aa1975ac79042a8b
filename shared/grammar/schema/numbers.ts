/** Numbers: types, bounds and multiples, which all must hold. */
import { choice, optional, sequence, type Rules } from "../rules/expressions.ts";
import type { Path } from "../rules/grammar-error.ts";
import type { Expression } from "../rules/grammar.ts";
import { Decimal } from "../text/decimal.ts";
import { decimals, fixedPoint, integers, type Bound, type Bounds } from "../text/numbers.ts";
import type { Alternative } from "./alternatives.ts";
import { INTEGER_FORMATS } from "./formats.ts";
import { boundsOf, MAX, MIN, numberOf, typesOf, unsupported } from "./keywords.ts";

export interface NumberDemand {
  readonly bounds: Bounds;
  readonly isInteger: boolean;
  /** Every number must be a multiple of it. */
  readonly step: Decimal | null;
  /** The keyword of the step. */
  readonly path: Path;
}

/** Common multiples of several steps have no more digits. */
const STEP_MAX = 10n ** 400n;

/** @throws GrammarError */
export function numberDemand(parts: Alternative, path: Path): NumberDemand {
  let [min, max] = [null, null] as [Bound | null, Bound | null];
  let step: Decimal | null = null;
  let at = path;
  let isInteger = false;
  for (const { claim } of parts) {
    const { schema, path } = claim;
    const format = INTEGER_FORMATS.get(String(schema["format"]));
    const lows = boundsOf(schema, MIN, path);
    const highs = boundsOf(schema, MAX, path);
    isInteger ||= typesOf(schema, path)?.isInteger ?? false;
    if (format) {
      lows.push({ at: Decimal.of(format[0]), isExclusive: false });
      highs.push({ at: Decimal.of(format[1]), isExclusive: false });
    }
    for (const bound of lows) min = stricter(min, bound, 1);
    for (const bound of highs) max = stricter(max, bound, -1);
    const divisor = numberOf(schema, "multipleOf", path);
    if (divisor === null) continue;
    at = [...path, "multipleOf"];
    if (divisor.digits <= 0n) throw unsupported(at, "must be greater than 0");
    step = step === null ? divisor : commonMultiple(step, divisor);
    if (step.digits > STEP_MAX) throw unsupported(at, "is not supported with the other steps");
  }
  if (isInteger && step !== null) step = commonMultiple(step, Decimal.of(1n));
  return { bounds: { min, max }, isInteger, step, path: at };
}

/** @param side 1 for lower bounds, -1 for upper ones */
function stricter(known: Bound | null, bound: Bound, side: 1 | -1): Bound {
  if (known === null) return bound;
  const order = bound.at.compare(known.at) * side;
  return order > 0 || (order === 0 && bound.isExclusive) ? bound : known;
}

function commonMultiple(a: Decimal, b: Decimal): Decimal {
  const scale = Math.max(a.scale, b.scale);
  const [x, y] = [a.scaledTo(scale), b.scaledTo(scale)];
  let [left, right] = [x, y];
  while (right !== 0n) [left, right] = [right, left % right];
  return Decimal.of((x / left) * y, scale);
}

/** Null if there is no such number. @throws GrammarError */
export function numberExpression(demand: NumberDemand, rules: Rules): Expression | null {
  const { bounds, isInteger, step } = demand;
  if (step === null) return isInteger ? integers(bounds) : decimals(bounds);
  if (step.equals(Decimal.of(1n)) && isInteger) return integers(bounds);
  return multiples(demand, step, rules);
}

/** Multiples that are written one by one, at most; and remainders of the automaton for others. */
const LISTED_MAX = 2_000;
const REMAINDERS_MAX = 500n;
/** Places of a step such as 0.01. */
const PLACES_MAX = 15;

function multiples({ bounds, path }: NumberDemand, step: Decimal, rules: Rules): Expression | null {
  const [low, high] = [lowest(bounds.min, step), highest(bounds.max, step)];
  if (step.digits === 1n && step.scale <= PLACES_MAX && (low !== null || high !== null)) {
    return fixedPoint(low, high, step.scale);
  }
  if (low !== null && high !== null && high - low < LISTED_MAX) {
    const texts: string[] = [];
    for (let i = low; i <= high; i++) texts.push(String(times(step, i)));
    rules.spend(4 * texts.length, path);
    return texts.length === 0 ? null : choice(texts);
  }
  // Other bounds than the sign: from there on, only numbers with more digits.
  const parts: Expression[] = [];
  const positive = half(low, high, step, path, rules);
  const negative = half(
    high === null ? null : -high,
    low === null ? null : -low,
    step,
    path,
    rules,
  );
  if (positive) parts.push(positive);
  if (negative) parts.push(sequence("-", negative));
  return parts.length === 0 ? null : choice(parts);
}

const times = (step: Decimal, factor: bigint) => Decimal.of(step.digits * factor, step.scale);

/** The factors of the first and the last multiple within the bounds. */
function lowest(min: Bound | null, step: Decimal): bigint | null {
  if (min === null) return null;
  const scale = Math.max(min.at.scale, step.scale);
  const [at, unit] = [min.at.scaledTo(scale), step.scaledTo(scale)];
  const floor = Decimal.of(at - (((at % unit) + unit) % unit)).digits / unit;
  const isOn = floor * unit === at;
  return isOn && !min.isExclusive ? floor : floor + 1n;
}

function highest(max: Bound | null, step: Decimal): bigint | null {
  if (max === null) return null;
  const factor = lowest({ at: max.at.negated(), isExclusive: max.isExclusive }, step);
  return factor === null ? null : -factor;
}

/** Multiples from 0 on whose factors are within bounds, of which the upper one may be missed. */
function half(
  low: bigint | null,
  high: bigint | null,
  step: Decimal,
  path: Path,
  rules: Rules,
): Expression | null {
  if (high !== null && high < 0n) return null;
  const first = low === null || low < 0n ? 0n : low;
  if (high !== null) return choice(listed(first, high + 1n, step));
  const multiples = new Multiples(step, path, rules);
  if (first === 0n) return multiples.expression(0);
  // The multiples up to the next power of ten one by one, and then all that have more digits.
  const digits = String(times(step, first).floor).length;
  const end = lowest({ at: Decimal.of(10n ** BigInt(digits)), isExclusive: false }, step)!;
  if (end - first > LISTED_MAX) throw unsupported(path, "is not supported with this bound");
  return choice([...listed(first, end, step), multiples.expression(digits)]);
}

/** The multiples with factors from `first` to `end` (exclusive), or the first of them. */
function listed(first: bigint, end: bigint, step: Decimal): string[] {
  const count = end - first < LISTED_MAX ? Number(end - first) : LISTED_MAX;
  return Array.from({ length: count }, (_, i) => String(times(step, first + BigInt(i))));
}

/** All multiples of a step from 0 on, as an automaton of remainders. */
class Multiples {
  readonly #step: Decimal;
  readonly #path: Path;
  readonly #rules: Rules;
  /** By remainder and place. */
  readonly #states = new Map<string, Expression>();

  constructor(step: Decimal, path: Path, rules: Rules) {
    this.#step = step;
    this.#path = path;
    this.#rules = rules;
    if (step.digits > REMAINDERS_MAX) {
      throw unsupported(path, `is supported up to ${REMAINDERS_MAX} in its last place`);
    }
  }

  /** @param more digits before the point, at least, beside the first; with 0 also the multiple 0 and fractions below 1 */
  expression(more: number): Expression {
    const options: Expression[] = more > 0 ? [] : [sequence("0", this.#fraction(0n))];
    for (let digit = 1; digit < 10; digit++) {
      options.push(sequence(String(digit), this.#at(this.#after(0n, digit), -1 - more)));
    }
    return this.#rules.add(choice(options), this.#path);
  }

  #after(remainder: bigint, digit: number): bigint {
    return (remainder * 10n + BigInt(digit)) % this.#step.digits;
  }

  /**
   * The expression of the digits that may follow a text with this remainder.
   * @param place digits after the point; -1 before it, and -1 - n if n more digits must follow before it
   */
  #at(remainder: bigint, place: number): Expression {
    const key = `${remainder} ${place}`;
    const known = this.#states.get(key);
    if (known !== undefined) return known;
    this.#rules.spend(24, this.#path);
    const { reference, define } = this.#rules.reserve(this.#path);
    this.#states.set(key, reference);
    const { scale, digits } = this.#step;
    const missing = BigInt(scale - Math.max(0, place));
    const isMultiple = place >= -1 && (remainder * 10n ** missing) % digits === 0n;
    const options: Expression[] = isMultiple ? [""] : [];
    const digitsMax = place < scale ? 10 : 0;
    for (let digit = 0; digit < digitsMax; digit++) {
      const next = place === -1 ? -1 : place + 1;
      options.push(sequence(String(digit), this.#at(this.#after(remainder, digit), next)));
    }
    if (place === -1 && scale > 0) options.push(this.#point(remainder));
    define(choice(options));
    return reference;
  }

  #fraction(remainder: bigint): Expression {
    return this.#step.scale === 0 ? "" : optional(this.#point(remainder));
  }

  #point(remainder: bigint): Expression {
    const options = Array.from({ length: 10 }, (_, digit) =>
      sequence(String(digit), this.#at(this.#after(remainder, digit), 1)),
    );
    return sequence(".", choice(options));
  }
}
