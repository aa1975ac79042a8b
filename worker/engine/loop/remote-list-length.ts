/**
 * How long a list of most likely tokens to ask for. With a short one more tokens have to be asked again, which takes a call;
 * a long one takes bytes in every row. The length grows when a token was not proven and shrinks slowly when it was, so that
 * about one token in 75 is asked again: beside a stream that costs as much as three tokens.
 */
const LENGTH_MIN = 16;
const GROWTH = 1.35;
const SHRINK = 0.996;

export class ListLength {
  readonly #max: number;
  #length: number;

  /** @param max the base's `top` */
  constructor(max: number) {
    this.#max = max;
    this.#length = max;
  }

  get value(): number {
    return Math.round(this.#length);
  }

  /** @param isProven whether the first list of a position was enough */
  observe(isProven: boolean): void {
    const length = this.#length * (isProven ? SHRINK : GROWTH);
    this.#length = Math.min(this.#max, Math.max(Math.min(LENGTH_MIN, this.#max), length));
  }
}
