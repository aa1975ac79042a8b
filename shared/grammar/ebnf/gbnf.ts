/** From a grammar in GBNF to the expression of its outputs. */
import type { Rules } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import { parseRules, type NamedRule } from "./parser.ts";

/** Characters of a rule's name that a message repeats. */
const NAME_CHARS_MAX = 64;
/** Rules of a circle that a message names. */
const CIRCLE_MAX = 8;

/**
 * @param path keys from the top of the format to the grammar
 * @throws GrammarError for a syntax error, a rule that is not defined, left recursion, and if the budget is exceeded
 */
export function gbnfExpression(text: string, rules: Rules, path: Path): Expression {
  const named = parseRules(text, rules, path);
  const root = named.get("root");
  if (root === undefined) {
    throw new GrammarError(path, "must be a grammar in GBNF that defines the rule root");
  }
  for (const { name, user, expression } of named.values()) {
    if (expression !== undefined) continue;
    const problem = `uses the rule ${shorten(name)}, which the grammar does not define`;
    throw new GrammarError([...path, user], problem);
  }
  new LeftRecursion(named, rules).check();
  return root.reference;
}

/** A rule that begins with itself would be entered for ever without reading anything. */
class LeftRecursion {
  readonly #named: ReadonlyMap<string, NamedRule>;
  readonly #rules: Rules;
  readonly #byReference = new Map<Expression, NamedRule>();
  readonly #nullable = new Set<NamedRule>();

  constructor(named: ReadonlyMap<string, NamedRule>, rules: Rules) {
    this.#named = named;
    this.#rules = rules;
    for (const rule of named.values()) this.#byReference.set(rule.reference, rule);
  }

  /** @throws GrammarError */
  check(): void {
    this.#findNullable();
    const done = new Set<NamedRule>();
    for (const rule of this.#named.values()) this.#visit(rule, done, []);
  }

  #findNullable(): void {
    for (let before = -1; before !== this.#nullable.size;) {
      before = this.#nullable.size;
      for (const rule of this.#named.values()) {
        this.#rules.spend(1, rule.path);
        if (this.#isNullable(rule.expression!)) this.#nullable.add(rule);
      }
    }
  }

  /** @param above the rules that begin with this one, outermost first */
  #visit(rule: NamedRule, done: Set<NamedRule>, above: NamedRule[]): void {
    if (done.has(rule)) return;
    if (above.includes(rule)) throw leftRecursion([...above.slice(above.indexOf(rule)), rule]);
    this.#rules.spend(1 + (above.length >>> 3), rule.path);
    above.push(rule);
    for (const first of this.#firstRules(rule.expression!)) this.#visit(first, done, above);
    above.pop();
    done.add(rule);
  }

  #isNullable(part: Expression): boolean {
    if (typeof part === "string") return part === "";
    if ("byte" in part) return false;
    if ("all" in part) return part.all.every((each) => this.#isNullable(each));
    if ("any" in part) return part.any.some((each) => this.#isNullable(each));
    if ("of" in part) return part.min === 0 || this.#isNullable(part.of);
    const rule = this.#byReference.get(part);
    return rule !== undefined && this.#nullable.has(rule);
  }

  /** The rules that a text of the expression may begin with. */
  #firstRules(part: Expression): NamedRule[] {
    if (typeof part === "string" || "byte" in part) return [];
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
  const names = circle.map(({ name }) => shorten(name));
  const shown = names.length > CIRCLE_MAX ? [...names.slice(0, CIRCLE_MAX), "…"] : names;
  const message = `begins with itself (${shown.join(", ")}): left recursion is not supported`;
  return new GrammarError(circle[0]!.path, message, { unsupported: true });
}

const shorten = (name: string) =>
  name.length <= NAME_CHARS_MAX ? name : `${name.slice(0, NAME_CHARS_MAX)}…`;
