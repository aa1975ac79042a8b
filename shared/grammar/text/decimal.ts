/** Exact decimal numbers: the numbers of JSON are texts, and some cannot be represented as numbers of JavaScript. */

/** Digits before or after the decimal point, at most. */
const PLACES_MAX = 400;

/** Most numbers: they need no look at their parts. */
const SHORT_INTEGER = /^-?\d{1,15}$/;

/** `digits` / 10 ** `scale`; `digits` does not end with 0 unless `scale` is 0. */
export class Decimal {
  readonly digits: bigint;
  readonly scale: number;
  /** As it was parsed; absent for a computed number. */
  readonly source: string | undefined;

  private constructor(digits: bigint, scale: number, source?: string) {
    this.digits = digits;
    this.scale = scale;
    this.source = source;
  }

  static of(digits: bigint, scale = 0): Decimal {
    if (scale < 0) return new Decimal(digits * 10n ** BigInt(-scale), 0);
    let [rest, places] = [digits, scale];
    while (places > 0 && rest % 10n === 0n) [rest, places] = [rest / 10n, places - 1];
    return new Decimal(rest, places);
  }

  /** A number as JSON or JavaScript writes it; null for one that is no number or has too many places. */
  static parse(text: string): Decimal | null {
    if (SHORT_INTEGER.test(text)) return new Decimal(BigInt(text), 0, text);
    const match = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
    if (!match) return null;
    const [, sign, whole = "", fraction = "", exponent = "0"] = match;
    const scale = fraction.length - Number(exponent);
    if (whole.length + fraction.length > PLACES_MAX || Math.abs(scale) > PLACES_MAX) return null;
    const digits = BigInt(whole + fraction);
    const number = Decimal.of(sign === "-" ? -digits : digits, scale);
    return new Decimal(number.digits, number.scale, text);
  }

  get isInteger(): boolean {
    return this.scale === 0;
  }

  get isNegative(): boolean {
    return this.digits < 0n;
  }

  negated(): Decimal {
    return new Decimal(-this.digits, this.scale);
  }

  compare(other: Decimal): number {
    const [a, b] = [this.scaledTo(other.scale), other.scaledTo(this.scale)];
    return a < b ? -1 : a > b ? 1 : 0;
  }

  equals(other: Decimal): boolean {
    return this.compare(other) === 0;
  }

  isMultipleOf(other: Decimal): boolean {
    return this.scaledTo(other.scale) % other.scaledTo(this.scale) === 0n;
  }

  /** This number times 10 ** max(scale, its own scale). */
  scaledTo(scale: number): bigint {
    if (scale <= this.scale) return this.digits;
    return this.digits * 10n ** BigInt(scale - this.scale);
  }

  /** The largest integer that is not larger, and the smallest that is not smaller. */
  get floor(): bigint {
    const unit = 10n ** BigInt(this.scale);
    const whole = this.digits / unit;
    return whole * unit > this.digits ? whole - 1n : whole;
  }

  get ceil(): bigint {
    return -this.negated().floor;
  }

  /** Without an exponent. */
  toString(): string {
    const text = String(this.isNegative ? -this.digits : this.digits).padStart(this.scale + 1, "0");
    const point = text.length - this.scale;
    const sign = this.isNegative ? "-" : "";
    return this.scale === 0 ? sign + text : `${sign}${text.slice(0, point)}.${text.slice(point)}`;
  }
}
