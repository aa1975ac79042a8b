/** The grammar of an output, over its UTF-8 bytes: the edge compiles it from `response_format`, the engine applies it. */

/** A set of texts. Plain data, stored in Redis as JSON: its keys must stay compatible with stored jobs. */
export type Expression =
  /** Exactly this text. */
  | string
  /** One byte within one of the ranges. */
  | { readonly byte: readonly ByteRange[] }
  /** These parts, one after the other. */
  | { readonly all: readonly Expression[] }
  /** One of these alternatives. */
  | { readonly any: readonly Expression[] }
  /** `of`, repeated min to max times; null for no limit. */
  | { readonly of: Expression; readonly min: number; readonly max: number | null }
  /**
   * `text`, which is ASCII, and then `first`. Or a beginning of `text`, and then a text of `others` that begins with another byte than
   * `text` has there; after the whole of `text`, with no byte of `unless`, among which are all with which `first` begins.
   * For the declared names `name` and `nature`: `text` is `na`, `first` is `me":…` or `ture":…`, `unless` is `m` and `t`, and
   * `others` is the rest of any key: `nation` is read by it from `i` on, and `note` from `o` on.
   */
  | {
      readonly text: string;
      readonly first: Expression;
      readonly others: Expression;
      readonly unless: readonly ByteRange[];
    }
  /** The rule with this index. */
  | { readonly rule: number };

/** Byte values from min to max, both included. */
export type ByteRange = readonly [min: number, max: number];

export interface Grammar {
  /** The first is the start rule, which the whole output must match. */
  readonly rules: readonly Expression[];
}

type MemberOf<T> = T extends object ? keyof T : never;

/** Every member of a grammar and its expressions. A new one raises JOB_VERSION, because an older worker must not ignore it. */
export const GRAMMAR: Readonly<Record<keyof Grammar | MemberOf<Expression>, true>> = {
  rules: true,
  byte: true,
  all: true,
  any: true,
  of: true,
  min: true,
  max: true,
  text: true,
  first: true,
  others: true,
  unless: true,
  rule: true,
};

/** The first member of a stored grammar, at any depth, that this release does not know. */
export function unknownMember(grammar: Grammar): string | undefined {
  const left: unknown[] = [grammar];
  for (let part = left.pop(); part !== undefined; part = left.pop()) {
    if (typeof part !== "object" || part === null) continue;
    for (const [name, value] of Object.entries(part)) {
      if (!Array.isArray(part) && !Object.hasOwn(GRAMMAR, name)) return name;
      if (name !== "byte" && name !== "unless") left.push(value);
    }
  }
  return undefined;
}
