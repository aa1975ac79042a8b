/** The rules of a grammar of the request, by their names. They may be used before they are defined. */
import { LIMITS } from "../../api/limits.ts";
import type { Rules } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import { LeftRecursion } from "./left-recursion.ts";
import { shortName, type NamedRule } from "./named-rule.ts";

type OpenRule = NamedRule & { readonly define: (of: Expression) => void };

export class NamedRules {
  readonly #named = new Map<string, OpenRule>();
  readonly #rules: Rules;
  readonly #path: Path;
  readonly #error: (problem: string) => GrammarError;

  /**
   * @param path keys from the top of the format to the grammar
   * @param error an error at the place of the grammar that is being read
   */
  constructor(rules: Rules, path: Path, error: (problem: string) => GrammarError) {
    this.#rules = rules;
    this.#path = path;
    this.#error = error;
  }

  /** @param user the rule that uses it; its own name if it is being defined */
  rule(name: string, user: string): NamedRule {
    return this.#rule(name, user);
  }

  /** @throws GrammarError if it is defined already */
  define(name: string, expression: Expression): void {
    const rule = this.#rule(name, name);
    if (rule.expression !== undefined) throw this.#error("the rule is defined twice");
    rule.expression = expression;
  }

  has(name: string): boolean {
    return this.#named.has(name);
  }

  /**
   * Completes the rules after all were read.
   * @param start the rule of the whole output
   * @throws GrammarError for a rule that is not defined, and left recursion that cannot be replaced
   */
  root(start: string): Expression {
    for (const { name, user, expression } of this.#named.values()) {
      if (expression !== undefined) continue;
      const problem = `uses the rule ${shortName(name)}, which the grammar does not define`;
      throw new GrammarError([...this.#path, user], problem);
    }
    new LeftRecursion([...this.#named.values()], this.#rules).replace();
    for (const { define, expression } of this.#named.values()) define(expression!);
    return this.#named.get(start)!.reference;
  }

  #rule(name: string, user: string): OpenRule {
    const known = this.#named.get(name);
    if (known) return known;
    if (this.#named.size === LIMITS.grammarRulesMax) {
      throw this.#error(`there are more than ${LIMITS.grammarRulesMax} rules`);
    }
    const path = [...this.#path, name];
    const rule: OpenRule = { name, path, user, ...this.#rules.reserve(path) };
    this.#named.set(name, rule);
    return rule;
  }
}
