/** Builds expressions, and collects the rules of a grammar. */
import { Budget } from "./budget.ts";
import { contentKey } from "./content-key.ts";
import type { Expression, Grammar } from "./grammar.ts";
import type { Path } from "./grammar-error.ts";

export const EMPTY: Expression = "";
/** No text at all. `prune` removes it, with every expression that needs it. */
export const NEVER: Expression = { any: [] };

/** The parts one after the other. Empty parts are left out, and nested sequences become one. */
export function sequence(...parts: readonly Expression[]): Expression {
  const nonEmpty: Expression[] = [];
  for (const part of parts) {
    if (typeof part === "object" && "all" in part) nonEmpty.push(...part.all);
    else if (part !== EMPTY) nonEmpty.push(part);
  }
  return nonEmpty.length === 1 ? nonEmpty[0]! : nonEmpty.length === 0 ? EMPTY : { all: nonEmpty };
}

/** One of the parts; NEVER without parts. */
export function choice(parts: readonly Expression[]): Expression {
  return parts.length === 1 ? parts[0]! : { any: parts };
}

/** @param max null for no limit */
export function repeat(of: Expression, min: number, max: number | null): Expression {
  return min === 1 && max === 1 ? of : { of, min, max };
}

export const optional = (part: Expression) => repeat(part, 0, 1);

/** Collects the rules of one grammar. Equal expressions share a rule. */
export class Rules {
  readonly budget = new Budget();
  /** Whether to prefer small expressions: objects that declare properties get no others unless a keyword speaks of them. */
  readonly isSmall: boolean;
  /** Whether that would make a difference. */
  canBeSmaller = false;
  /** Whether all expressions are written. */
  areWritten = false;
  /** The first is the start rule. `toGrammar` sets it, after all others. */
  readonly #rules: Expression[] = [EMPTY];
  /** The part of the format that each rule comes from, as the budget numbers it. */
  readonly #origins: number[] = [this.budget.origin([])];
  readonly #originsByPath = new Map<Path, number>();
  readonly #references = new Map<Expression, Expression>();
  readonly #byContent = new Map<string, Expression>();

  constructor({ isSmall = false } = {}) {
    this.isSmall = isSmall;
  }

  /** The origin of each rule: the part of the format that it comes from, as the budget numbers it. */
  get origins(): readonly number[] {
    return this.#origins;
  }

  /**
   * Returns a reference to a rule with this expression: a new rule, or an equal one that exists.
   * @param path keys from the top of the format to the part that needs the rule
   */
  add(expression: Expression, path: Path): Expression {
    if (typeof expression === "string" || "rule" in expression) return expression;
    const known = this.#references.get(expression);
    if (known) return known;
    const { key, steps } = contentKey(expression);
    this.budget.spend(steps, this.#origin(path));
    const equal = this.#byContent.get(key) ?? this.#define(expression, path);
    this.#byContent.set(key, equal);
    this.#references.set(expression, equal);
    return equal;
  }

  /** Reserves a rule whose expression may refer to the rule itself. */
  reserve(path: Path): {
    readonly reference: Expression;
    readonly define: (of: Expression) => void;
  } {
    const origin = this.#origin(path);
    this.budget.spend(1, origin);
    const rule = this.#rules.push(EMPTY) - 1;
    this.#origins.push(origin);
    return { reference: { rule }, define: (of) => void (this.#rules[rule] = of) };
  }

  /** The grammar of these rules and a start rule. */
  toGrammar(root: Expression): Grammar {
    this.#rules[0] = root;
    this.areWritten = true;
    return { rules: this.#rules };
  }

  /** Counts steps towards the budget. @throws GrammarError with the path of the most expensive part */
  spend(steps: number, path: Path): void {
    this.budget.spend(steps, this.#origin(path));
  }

  #define(expression: Expression, path: Path): Expression {
    const { reference, define } = this.reserve(path);
    define(expression);
    return reference;
  }

  #origin(path: Path): number {
    const origin = this.#originsByPath.get(path) ?? this.budget.origin(path);
    this.#originsByPath.set(path, origin);
    return origin;
  }
}
