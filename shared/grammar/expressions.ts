/** Parts of grammars, and how they are put together. */
import type { Expression, Grammar } from "../grammar.ts";
import { LIMITS } from "../limits.ts";
import { utf8Of } from "./utf8.ts";

/** What cannot become a grammar, and where in the format it is. */
export class GrammarError extends Error {
  override readonly name = "GrammarError";
  /** Keys from the top of the format. */
  readonly path: readonly string[];
  /** Whether it is sound, and only not supported here. */
  readonly unsupported: boolean;

  constructor(path: readonly string[], message: string, { unsupported = false } = {}) {
    super(message);
    this.path = path;
    this.unsupported = unsupported;
  }
}

export const EMPTY: Expression = "";

/** One character of these ranges of code points, in which there is no half of a surrogate pair. */
export function oneOf(
  ranges: readonly { readonly min: number; readonly max: number }[],
): Expression {
  const runs = ranges.flatMap(({ min, max }) => utf8Of(min, max));
  // Those of a single byte are one range set, which is one step.
  const single = runs.filter((run) => run.length === 1).map(([range]) => range!);
  const longer = runs
    .filter((run) => run.length > 1)
    .map((run) => sequence(...run.map((range) => ({ byte: [range] }))));
  return choice([...(single.length > 0 ? [{ byte: single }] : []), ...longer]);
}

export function sequence(...parts: readonly Expression[]): Expression {
  const some = parts
    .flatMap((part) => (typeof part === "object" && "all" in part ? part.all : [part]))
    .filter((part) => part !== EMPTY);
  return some.length === 1 ? some[0]! : some.length === 0 ? EMPTY : { all: some };
}

export function choice(parts: readonly Expression[]): Expression {
  return parts.length === 1 ? parts[0]! : { any: parts };
}

/** @param max null for any number */
export function repeat(of: Expression, min: number, max: number | null): Expression {
  return min === 1 && max === 1 ? of : { of, min, max };
}

export const optional = (part: Expression) => repeat(part, 0, 1);

/** The rules of one grammar. What is used in several places is written once. */
export class Rules {
  /** The first is the root, which is known last. */
  readonly #rules: Expression[] = [EMPTY];
  readonly #known = new Map<string, Expression>();

  /** A rule that says this, or the one that says it already. */
  add(expression: Expression): Expression {
    if (typeof expression === "string" || "rule" in expression) return expression;
    const key = JSON.stringify(expression);
    const known = this.#known.get(key);
    if (known) return known;
    const { reference, define } = this.reserve();
    define(expression);
    this.#known.set(key, reference);
    return reference;
  }

  /** A rule that may refer to itself. */
  reserve(): { readonly reference: Expression; readonly define: (of: Expression) => void } {
    const rule = this.#rules.push(EMPTY) - 1;
    return { reference: { rule }, define: (of) => void (this.#rules[rule] = of) };
  }

  /** @throws GrammarError if it is too large */
  toGrammar(root: Expression): Grammar {
    this.#rules[0] = root;
    const states = this.#rules.reduce((sum: number, rule) => sum + stateCount(rule), 0);
    if (states > LIMITS.grammarStatesMax) {
      const size = `${states} places, counted repetitions written out`;
      throw new GrammarError([], `comes to ${size}, and may to ${LIMITS.grammarStatesMax}`);
    }
    return { rules: this.#rules };
  }
}

/** Places of the automaton that the engine makes of it. */
function stateCount(expression: Expression): number {
  if (typeof expression === "string") return new TextEncoder().encode(expression).length;
  if ("byte" in expression || "rule" in expression) return 1;
  const total = (parts: readonly Expression[]) =>
    parts.reduce((sum: number, part) => sum + stateCount(part), 1);
  if ("all" in expression) return total(expression.all);
  if ("any" in expression) return total(expression.any);
  return 1 + stateCount(expression.of) * Math.max(1, expression.min, expression.max ?? 0);
}
