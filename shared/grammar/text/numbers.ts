/** Decimal numbers within bounds, as JSON writes them. */
import { choice, EMPTY, optional, repeat, sequence } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import { Decimal } from "./decimal.ts";

/**
 * Digits before the decimal point, and after it, at most. With an exponent of two digits the number is still less than the largest
 * one of double precision (1.8e308).
 */
const DIGITS_MAX = 190;
/** Digits that every number of double precision keeps. Beyond them, a number below a bound could be read as the bound itself. */
const EXACT_DIGITS = 15;

export interface Bound {
  readonly at: Decimal;
  readonly isExclusive: boolean;
}

/** Null for no bound. */
export interface Bounds {
  readonly min: Bound | null;
  readonly max: Bound | null;
}

const bytes = (from: string, to: string): Expression => ({
  byte: [[from.charCodeAt(0), to.charCodeAt(0)]],
});
const digit = (min: number, max: number) => bytes(String(min), String(max));
const digits = (min: number, max: number | null) => repeat(digit(0, 9), min, max);
const oneByteOf = (characters: string): Expression => ({
  byte: Array.from(characters, (one) => [one.charCodeAt(0), one.charCodeAt(0)] as const),
});

const ANY_NATURAL = choice(["0", sequence(digit(1, 9), digits(0, DIGITS_MAX - 1))]);
const FRACTION = sequence(".", digits(1, DIGITS_MAX));

const ANY_INTEGER = sequence(optional("-"), ANY_NATURAL);
/** Any number as JSON writes it. */
export const ANY_NUMBER = sequence(
  ANY_INTEGER,
  optional(FRACTION),
  optional(sequence(oneByteOf("eE"), optional(oneByteOf("+-")), digits(1, 2))),
);

/** Integers within bounds. Null if there is no such integer. */
export function integers({ min, max }: Bounds): Expression | null {
  if (min === null && max === null) return ANY_INTEGER;
  const low = min && (min.isExclusive ? min.at.floor + 1n : min.at.ceil);
  const high = max && (max.isExclusive ? max.at.ceil - 1n : max.at.floor);
  return signed(low, high);
}

function signed(low: bigint | null, high: bigint | null): Expression | null {
  const parts: Expression[] = [];
  if (low === null || low < 0n) {
    const from = high === null || high >= -1n ? 1n : -high;
    parts.push(...naturals(from, low === null ? null : -low).map((text) => sequence("-", text)));
  }
  if (high === null || high >= 0n) {
    parts.push(...naturals(low === null || low < 0n ? 0n : low, high));
  }
  return parts.length === 0 ? null : choice(parts);
}

/** Multiples of 10 ** -scale, from `low` of them to `high` (null: no limit). Null if there is none. */
export function fixedPoint(
  low: bigint | null,
  high: bigint | null,
  scale: number,
): Expression | null {
  const parts: Expression[] = [];
  if (low === null || low < 0n) {
    const from = high === null || high >= -1n ? 1n : -high;
    const positive = fixedPositives(from, low && -low, scale);
    if (positive) parts.push(sequence("-", positive));
  }
  if (high === null || high >= 0n) {
    const positive = fixedPositives(low === null || low < 0n ? 0n : low, high, scale);
    if (positive) parts.push(positive);
  }
  return parts.length === 0 ? null : choice(parts);
}

function fixedPositives(low: bigint, high: bigint | null, scale: number): Expression | null {
  if (high !== null && high < low) return null;
  const unit = 10n ** BigInt(scale);
  const fraction = (from: bigint, to: bigint) => fixedFraction(from % unit, to % unit, scale);
  const [first, last] = [low / unit, high === null ? null : high / unit];
  if (high !== null && first === last) return sequence(String(first), fraction(low, high));
  const parts = [sequence(String(first), fraction(low, unit - 1n))];
  for (const whole of naturals(first + 1n, last === null ? null : last - 1n)) {
    parts.push(sequence(whole, fraction(0n, unit - 1n)));
  }
  if (high !== null) parts.push(sequence(String(last), fraction(0n, high)));
  return choice(parts);
}

/** The fractions from `low` to `high` of 10 ** -scale, with their points, and with or without zeros at their end. */
function fixedFraction(low: bigint, high: bigint, scale: number): Expression {
  const isAll = low === 0n && high === 10n ** BigInt(scale) - 1n;
  if (isAll && scale > 0) return optional(sequence(".", digits(1, scale)));
  const options: Expression[] = low === 0n ? [EMPTY] : [];
  for (let places = 1; places <= scale; places++) {
    const unit = 10n ** BigInt(scale - places);
    const [from, to] = [(low + unit - 1n) / unit, high / unit];
    const padded = (value: bigint) => String(value).padStart(places, "0");
    if (from <= to) options.push(sequence(".", sameLength(padded(from), padded(to))));
  }
  return choice(options);
}

/** Alternatives for natural numbers from low to high (null: no limit), split by the number of digits. */
function naturals(low: bigint, high: bigint | null): Expression[] {
  if (high !== null && high < low) return [];
  const [first, last] = [String(low), high === null ? null : String(high)];
  if (last?.length === first.length) return [sameLength(first, last)];
  const parts = [sameLength(first, "9".repeat(first.length))];
  const longest = last === null ? DIGITS_MAX : last.length - 1;
  if (longest > first.length) {
    parts.push(sequence(digit(1, 9), digits(first.length, longest - 1)));
  }
  if (last !== null) parts.push(sameLength(`1${"0".repeat(last.length - 1)}`, last));
  return parts;
}

/** Numbers from low to high, which have the same number of digits. */
function sameLength(low: string, high: string): Expression {
  if (low === high) return low;
  const rest = low.length - 1;
  const [first, last] = [Number(low[0]), Number(high[0])];
  if (first === last) return sequence(String(first), sameLength(low.slice(1), high.slice(1)));
  const isFromStart = /^0*$/.test(low.slice(1));
  const isToEnd = /^9*$/.test(high.slice(1));
  const parts: Expression[] = [];
  if (!isFromStart) {
    parts.push(sequence(String(first), sameLength(low.slice(1), "9".repeat(rest))));
  }
  const [from, to] = [isFromStart ? first : first + 1, isToEnd ? last : last - 1];
  if (from <= to) parts.push(sequence(digit(from, to), digits(rest, rest)));
  if (!isToEnd) parts.push(sequence(String(last), sameLength("0".repeat(rest), high.slice(1))));
  return choice(parts);
}

/** Decimal numbers within bounds, without exponents. Null if there is no such number. */
export function decimals({ min, max }: Bounds): Expression | null {
  if (min === null && max === null) return ANY_NUMBER;
  const parts: Expression[] = [];
  // The negative numbers are the positive ones of the bounds with their sides exchanged.
  if (min === null || min.at.isNegative) {
    const part = positives(max && mirrored(max), min && mirrored(min));
    if (part !== null) parts.push(sequence("-", part));
  }
  if (max === null || !max.at.isNegative) {
    const part = positives(min, max);
    if (part !== null) parts.push(part);
  }
  return parts.length === 0 ? null : choice(parts);
}

const mirrored = ({ at, isExclusive }: Bound): Bound => ({ at: at.negated(), isExclusive });

/** Numbers from 0 on within bounds. */
function positives(min: Bound | null, max: Bound | null): Expression | null {
  const low: Bound =
    min === null || min.at.isNegative ? { at: Decimal.of(0n), isExclusive: false } : min;
  const many = fractionDigits([low, max]);
  const [lowWhole, highWhole] = [low.at.floor, max && max.at.floor];
  if (highWhole !== null && highWhole < lowWhole) return null;
  const lowPart = fractionOf(low.at);
  if (max !== null && highWhole === lowWhole) {
    const fraction = between(lowPart, fractionOf(max.at), { low, high: max, many });
    return fraction && sequence(String(lowWhole), fraction);
  }
  const parts: Expression[] = [];
  const first = between(lowPart, null, { low, high: null, many });
  if (first) parts.push(sequence(String(lowWhole), first));
  for (const whole of naturals(lowWhole + 1n, highWhole === null ? null : highWhole - 1n)) {
    parts.push(sequence(whole, optional(sequence(".", digits(1, many)))));
  }
  const last = max && between("", fractionOf(max.at), { low: null, high: max, many });
  if (last) parts.push(sequence(String(highWhole), last));
  return parts.length === 0 ? null : choice(parts);
}

/** Digits after the decimal point, at most: with exclusive bounds, so few that rounding cannot reach a bound. */
function fractionDigits(bounds: readonly (Bound | null)[]): number {
  const exact = bounds.flatMap((bound) => {
    if (!bound?.isExclusive || bound.at.digits === 0n) return [];
    return [Math.max(1, EXACT_DIGITS - String(bound.at.floor).length - bound.at.scale)];
  });
  return Math.min(DIGITS_MAX, ...exact);
}

/** The digits after the decimal point. */
const fractionOf = (number: Decimal) => String(number).split(".")[1] ?? "";

interface FractionBounds {
  /** Null: from 0 on, or to 1 (exclusive). */
  readonly low: Bound | null;
  readonly high: Bound | null;
  readonly many: number;
}

/** A fraction with its point, or nothing, from `low` to `high` (null: without limit), which are digits after the point. */
function between(low: string, high: string | null, bounds: FractionBounds): Expression | null {
  const isZeroAllowed =
    low === "" && !bounds.low?.isExclusive && !(high === "" && bounds.high?.isExclusive);
  const rest = fraction(low, high, bounds);
  const fractional = rest && sequence(".", rest);
  if (!isZeroAllowed) return fractional;
  return fractional ? optional(fractional) : EMPTY;
}

/** Limits of the functions below, for the rest of a fraction. */
interface Rest {
  readonly isLowExclusive: boolean;
  readonly isHighExclusive: boolean;
  /** Digits that may follow where they do not matter, at most. */
  readonly many: number;
  /** Whether no digit has been written yet, so that one must follow. */
  readonly isFirst: boolean;
}

function fraction(low: string, high: string | null, bounds: FractionBounds): Expression | null {
  const rest = {
    isLowExclusive: bounds.low?.isExclusive ?? false,
    isHighExclusive: bounds.high?.isExclusive ?? false,
    many: bounds.many,
    isFirst: true,
  };
  return high === null ? atLeast(low, rest) : within(low, high, rest);
}

const digitThen = (first: number, rest: Expression | null): Expression[] =>
  rest === null ? [] : [sequence(String(first), rest)];
const digitsBetween = (first: number, last: number, many: number): Expression[] =>
  first > last ? [] : [sequence(digit(first, last), digits(0, many))];

function atLeast(low: string, rest: Rest): Expression {
  const { isLowExclusive, isFirst, many } = rest;
  if (low === "" && !isLowExclusive) return digits(isFirst ? 1 : 0, many);
  if (low === "") return sequence(repeat("0", 0, many), digit(1, 9), digits(0, many));
  const first = Number(low[0]);
  const same = digitThen(first, atLeast(low.slice(1), { ...rest, isFirst: false }));
  return choice([...same, ...digitsBetween(first + 1, 9, many)]);
}

function atMost(high: string, rest: Rest): Expression | null {
  const { isHighExclusive, isFirst, many } = rest;
  if (high === "") return isHighExclusive ? null : repeat("0", isFirst ? 1 : 0, many);
  const first = Number(high[0]);
  const same = digitThen(first, atMost(high.slice(1), { ...rest, isFirst: false }));
  const parts = [...same, ...digitsBetween(0, first - 1, many), ...(isFirst ? [] : [EMPTY])];
  return parts.length === 0 ? null : choice(parts);
}

function within(low: string, high: string, rest: Rest): Expression | null {
  if (low === "" && !rest.isLowExclusive) return atMost(high, rest);
  if (high === "") return null;
  const [from, to] = [Number(low[0] ?? 0), Number(high[0])];
  if (to < from) return null;
  const [lowRest, highRest, next] = [low.slice(1), high.slice(1), { ...rest, isFirst: false }];
  const parts =
    from === to
      ? digitThen(from, within(lowRest, highRest, next))
      : [
          ...digitThen(from, atLeast(lowRest, next)),
          ...digitsBetween(from + 1, to - 1, rest.many),
          ...digitThen(to, atMost(highRest, next)),
        ];
  return parts.length === 0 ? null : choice(parts);
}
