/** Grammars over bytes: what a generation's output must be, as the door makes it and the engine reads it. */

/** One or several texts. Plain data: it crosses Redis as JSON. */
export type Expression =
  /** This text. */
  | string
  /** One byte within one of the ranges. */
  | { readonly byte: readonly ByteRange[] }
  /** One after the other. */
  | { readonly all: readonly Expression[] }
  | { readonly any: readonly Expression[] }
  /** So many times; null for no limit. */
  | { readonly of: Expression; readonly min: number; readonly max: number | null }
  /** The rule of this index. */
  | { readonly rule: number };

/** From min to max, both included. */
export type ByteRange = readonly [min: number, max: number];

export interface Grammar {
  /** The first is the whole output. */
  readonly rules: readonly Expression[];
}
