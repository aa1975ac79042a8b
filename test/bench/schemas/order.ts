/** Follows texts of JSON through a grammar, as they are or with the properties of objects in another order. */
import { keysInOrder, numberText } from "../../../shared/api/json-source.ts";
import { parseJson } from "../../../shared/api/json-text.ts";
import type { GrammarPosition, Matcher } from "../../../worker/engine/grammar/matcher.ts";

const encoder = new TextEncoder();

export function follow(start: GrammarPosition, text: string): GrammarPosition | null {
  let position: GrammarPosition | null = start;
  for (const byte of encoder.encode(text)) {
    position = position.advance(byte);
    if (!position) return null;
  }
  return position;
}

/** Tries of one text, at most. */
const TRIES_MAX = 20_000;

/** Whether a grammar accepts a text with the properties of its objects in any order. */
export function acceptedInSomeOrder(matcher: Matcher, text: string): boolean {
  let tries = TRIES_MAX;
  const accepted = value({ root: parseJson(text, "The text") }, "root", matcher.start);
  return accepted.some((position) => position.canEnd);

  function value(
    container: object,
    key: string | number,
    from: GrammarPosition,
  ): GrammarPosition[] {
    const item = (container as Record<string | number, unknown>)[key];
    if (Array.isArray(item)) return array(item, from);
    if (typeof item === "object" && item !== null)
      return object(item, keysInOrder(item), from, true);
    const written = typeof item === "number" ? numberText(container, key) : JSON.stringify(item);
    return after(from, written);
  }

  function after(from: GrammarPosition, written: string): GrammarPosition[] {
    const position = tries-- > 0 ? follow(from, written) : null;
    return position ? [position] : [];
  }

  function array(items: readonly unknown[], from: GrammarPosition): GrammarPosition[] {
    let at = after(from, "[");
    for (let i = 0; i < items.length; i++) {
      at = at.flatMap((position) => after(position, i === 0 ? "" : ", "));
      at = at.flatMap((position) => value(items, i, position)).slice(0, 4);
    }
    return at.flatMap((position) => after(position, "]"));
  }

  function object(
    members: object,
    left: readonly string[],
    from: GrammarPosition,
    isFirst: boolean,
  ): GrammarPosition[] {
    if (left.length === 0) return after(from, isFirst ? "{}" : "}");
    const options = left.flatMap((key) => {
      const start = `${isFirst ? "{" : ", "}${JSON.stringify(key)}: `;
      const ends = after(from, start).flatMap((position) => value(members, key, position));
      return ends.length === 0 ? [] : [{ key, ends }];
    });
    for (const { key, ends } of likelyFirst(options)) {
      const rest = left.filter((other) => other !== key);
      const whole = ends.flatMap((position) => object(members, rest, position, false));
      if (whole.length > 0) return whole;
    }
    return [];
  }

  /** Those first that others can follow, but not precede. */
  function likelyFirst(options: readonly Option[]): readonly Option[] {
    const canPrecede = (a: Option, b: Option) =>
      a.ends.some((end) => follow(end, `, ${JSON.stringify(b.key)}: `) !== null);
    const scored = options.map((option) => {
      const others = options.length < 2 ? [] : options.filter((other) => other !== option);
      const [before, after] = [
        others.filter((other) => !canPrecede(option, other) && canPrecede(other, option)),
        others.filter((other) => canPrecede(option, other)),
      ];
      return { option, score: after.length - others.length * before.length };
    });
    return scored.toSorted((a, b) => b.score - a.score).map(({ option }) => option);
  }
}

/** A key that may come next, and the positions after its value. */
interface Option {
  readonly key: string;
  readonly ends: readonly GrammarPosition[];
}
