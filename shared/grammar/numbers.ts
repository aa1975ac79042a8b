/** Decimal numbers within bounds, as regular expressions. */

/** Digits before and after the point: integers of so many are exact in every reader of JSON. */
const DIGITS_MAX = 15;
const LARGEST = 10 ** DIGITS_MAX - 1;

/** Bounds, both included; null for none. */
export interface Bounds {
  readonly min: number | null;
  readonly max: number | null;
}

/** Integers within bounds, which are safe integers; null if there is none. */
export function integers({ min, max }: Bounds): string | null {
  const low = Math.max(min ?? -LARGEST, -LARGEST);
  const high = Math.min(max ?? LARGEST, LARGEST);
  const parts: string[] = [];
  if (low < 0) parts.push(...naturals(Math.max(1, -high), -low).map((digits) => `-${digits}`));
  if (high >= 0) parts.push(...naturals(Math.max(0, low), high));
  return parts.length === 0 ? null : `(?:${parts.join("|")})`;
}

/** Numbers within bounds that are integers, so that a number of the same whole part or a larger one is within too. */
export function decimals({ min, max }: Bounds): string | null {
  const fraction = `\\.\\d{1,${DIGITS_MAX}}`;
  if (min === null && max === null) {
    return `-?(?:0|[1-9]\\d{0,${DIGITS_MAX - 1}})(?:${fraction})?(?:[eE][+-]?\\d{1,2})?`;
  }
  const whole = integers({ min, max });
  // A fraction leads away from zero: one more than the whole part must still be within.
  const [low, high] = [min ?? -LARGEST, max ?? LARGEST];
  const parts = whole === null ? [] : [whole];
  const positive = high > 0 ? integers({ min: Math.max(0, low), max: high - 1 }) : null;
  if (positive !== null) parts.push(`${positive}${fraction}`);
  const negative = low < 0 ? integers({ min: Math.max(0, -high), max: -low - 1 }) : null;
  if (negative !== null) parts.push(`-${negative}${fraction}`);
  return parts.length === 0 ? null : `(?:${parts.join("|")})`;
}

/** Natural numbers from low to high, split by their count of digits. */
function naturals(low: number, high: number): string[] {
  const parts: string[] = [];
  for (let from = low; from <= high;) {
    const digits = String(from).length;
    const to = Math.min(high, 10 ** digits - 1);
    parts.push(sameLength(String(from), String(to)));
    from = to + 1;
  }
  return parts;
}

/** Numbers between two of the same count of digits. */
function sameLength(low: string, high: string): string {
  if (low === high) return low;
  const rest = low.length - 1;
  const free = rest === 0 ? "" : `\\d{${rest}}`;
  const [first, last] = [Number(low[0]), Number(high[0])];
  if (first === last) return `${first}${sameLength(low.slice(1), high.slice(1))}`;
  const isFromStart = /^0*$/.test(low.slice(1));
  const isToEnd = /^9*$/.test(high.slice(1));
  const parts: string[] = [];
  if (!isFromStart) parts.push(`${first}${sameLength(low.slice(1), "9".repeat(rest))}`);
  const [from, to] = [isFromStart ? first : first + 1, isToEnd ? last : last - 1];
  if (from <= to) parts.push(`${from === to ? from : `[${from}-${to}]`}${free}`);
  if (!isToEnd) parts.push(`${last}${sameLength("0".repeat(rest), high.slice(1))}`);
  return parts.length === 1 ? parts[0]! : `(?:${parts.join("|")})`;
}
