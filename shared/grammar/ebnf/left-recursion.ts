/**
 * A rule that begins with itself would be entered for ever without reading anything. Where its own alternatives begin with it, such as
 * `sum ::= sum "+" term | term`, it becomes a repetition with the same texts. Circles over several rules are refused.
 */
import { choice, EMPTY, repeat, sequence, type Rules } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import { GrammarError } from "../rules/grammar-error.ts";
import { shortName, type NamedRule } from "./named-rule.ts";

/** Rules of a circle that a message names. */
const CIRCLE_MAX = 8;

export class LeftRecursion {
  /** With those that `#shared` adds, whose names are empty. */
  readonly #named: NamedRule[];
  readonly #rules: Rules;
  readonly #byReference = new Map<Expression, NamedRule>();
  readonly #nullable = new Set<NamedRule>();
  /** Parts that were looked at. */
  #looked = 0;

  constructor(named: readonly NamedRule[], rules: Rules) {
    this.#named = [...named];
    this.#rules = rules;
    for (const rule of named) this.#byReference.set(rule.reference, rule);
  }

  /** @throws GrammarError for a circle over several rules */
  replace(): void {
    // The rules that this adds do not begin with themselves.
    for (const rule of this.#named) rule.expression = this.#repeated(rule);
    this.#findNullable();
    const done = new Set<NamedRule>();
    for (const rule of this.#named) this.#visit(rule, done, []);
  }

  /**
   * The rule A with the alternatives `A d`, `A c A`, `p A` and `b` has the texts `P (d | c P)*`, where P is `p* b`. The other
   * alternatives that end with A are replaced, too: which of two calls a text continues would be ambiguous.
   */
  #repeated(rule: NamedRule): Expression {
    const { expression, reference, path } = rule;
    const whole = expression!;
    const alternatives = alternativesOf(whole);
    this.#rules.spend(1 + alternatives.length, path);
    const begins = (parts: readonly Expression[]) => parts[0] === reference;
    if (!alternatives.some(begins)) return whole;
    const prefixes: Expression[] = [];
    const firsts: Expression[] = [];
    /** Each is followed by the rule without its repetitions if it ended with the rule. */
    const rests: { parts: Expression; isOpen: boolean }[] = [];
    for (const parts of alternatives) {
      const isOpen = parts.length > 1 && parts.at(-1) === reference;
      const inner = sequence(...parts.slice(Number(begins(parts)), isOpen ? -1 : undefined));
      if (begins(parts)) rests.push({ parts: inner, isOpen });
      else (isOpen ? prefixes : firsts).push(inner);
    }
    const last = choice(firsts);
    const one = prefixes.length > 0 ? sequence(repeat(choice(prefixes), 0, null), last) : last;
    const first = rests.some(({ isOpen }) => isOpen) ? this.#shared(one, rule) : one;
    const after = rests
      .filter(({ parts, isOpen }) => isOpen || parts !== EMPTY)
      .map(({ parts, isOpen }) => (isOpen ? sequence(parts, first) : parts));
    return sequence(first, repeat(choice(after), 0, null));
  }

  /** A rule for a part that many alternatives contain: copies would take the square of their number. */
  #shared(expression: Expression, { path, user }: NamedRule): Expression {
    if (typeof expression === "string" || "rule" in expression) return expression;
    const { reference, define } = this.#rules.reserve(path);
    define(expression);
    const rule = { name: "", path, reference, expression, user };
    this.#named.push(rule);
    this.#byReference.set(reference, rule);
    return reference;
  }

  #findNullable(): void {
    for (let before = -1; before !== this.#nullable.size;) {
      before = this.#nullable.size;
      for (const rule of this.#named) {
        this.#looked = 0;
        if (this.#isNullable(rule.expression!)) this.#nullable.add(rule);
        this.#rules.spend(1 + (this.#looked >>> 3), rule.path);
      }
    }
  }

  /** @param above the rules that begin with this one, outermost first */
  #visit(rule: NamedRule, done: Set<NamedRule>, above: NamedRule[]): void {
    if (done.has(rule)) return;
    if (above.includes(rule)) throw leftRecursion([...above.slice(above.indexOf(rule)), rule]);
    this.#looked = above.length;
    const firsts = this.#firstRules(rule.expression!);
    this.#rules.spend(1 + (this.#looked >>> 3), rule.path);
    above.push(rule);
    for (const first of firsts) this.#visit(first, done, above);
    above.pop();
    done.add(rule);
  }

  #isNullable(part: Expression): boolean {
    this.#looked++;
    if (typeof part === "string") return part === "";
    if ("byte" in part) return false;
    if ("all" in part) return part.all.every((each) => this.#isNullable(each));
    if ("any" in part) return part.any.some((each) => this.#isNullable(each));
    if ("of" in part) return part.min === 0 || this.#isNullable(part.of);
    if ("text" in part) return false;
    const rule = this.#byReference.get(part);
    return rule !== undefined && this.#nullable.has(rule);
  }

  /** The rules that a text of the expression may begin with. */
  #firstRules(part: Expression): NamedRule[] {
    this.#looked++;
    if (typeof part === "string" || "byte" in part || "text" in part) return [];
    if ("any" in part) return part.any.flatMap((each) => this.#firstRules(each));
    if ("of" in part) return this.#firstRules(part.of);
    if ("rule" in part) {
      const rule = this.#byReference.get(part);
      // Large sets of characters are rules without a name.
      return rule ? [rule] : [];
    }
    const end = part.all.findIndex((each) => !this.#isNullable(each));
    const first = end === -1 ? part.all : part.all.slice(0, end + 1);
    return first.flatMap((each) => this.#firstRules(each));
  }
}

function leftRecursion(circle: readonly NamedRule[]): GrammarError {
  const names = circle.filter(({ name }) => name !== "").map(({ name }) => shortName(name));
  const shown = names.length > CIRCLE_MAX ? [...names.slice(0, CIRCLE_MAX), "…"] : names;
  const message = `begins with itself (${shown.join(", ")}): left recursion is not supported`;
  return new GrammarError(circle[0]!.path, message, { unsupported: true });
}

/** The alternatives of an expression, each as the parts of a sequence. */
function alternativesOf(expression: Expression): readonly (readonly Expression[])[] {
  if (typeof expression === "object" && "any" in expression) {
    return expression.any.flatMap(alternativesOf);
  }
  return [typeof expression === "object" && "all" in expression ? expression.all : [expression]];
}
