/**
 * Parses a grammar in GBNF, the syntax of llama.cpp, which vLLM and XGrammar read as well: rules `name ::= …` over literals,
 * sets of characters, groups, alternatives and repetitions. A rule may go on over several lines.
 */
import type { CharSet } from "refa";
import { LIMITS } from "../../api/limits.ts";
import { choice, repeat, sequence, type Rules } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import type { Path } from "../rules/grammar-error.ts";
import { ANY_CHARACTER, characters, PLAIN, setOf } from "../text/characters.ts";
import { Scanner } from "./scanner.ts";

/** A rule of the grammar. */
export interface NamedRule {
  readonly name: string;
  /** Keys from the top of the format to the rule, which end with its name. */
  readonly path: Path;
  /** An expression that stands for the rule. */
  readonly reference: Expression;
  /** Its definition; absent if the grammar has none. */
  expression?: Expression;
  /** The first rule that uses it. */
  readonly user: string;
}

type OpenRule = NamedRule & { readonly define: (of: Expression) => void };

/** A set with more ranges of characters becomes a rule of its own, which all its occurrences share. */
const INLINE_RANGES_MAX = 8;

/**
 * The rules that a grammar defines or uses, by name.
 * @param path keys from the top of the format to the grammar
 * @throws GrammarError for a syntax error, and if the budget is exceeded
 */
export function parseRules(text: string, rules: Rules, path: Path): Map<string, NamedRule> {
  rules.spend(text.length, path);
  return new Parser(text, rules, path).rules();
}

class Parser {
  readonly #scanner: Scanner;
  readonly #rules: Rules;
  readonly #path: Path;
  readonly #named = new Map<string, OpenRule>();
  /** The rule that is being read. */
  #current = "";
  #depth = 0;

  constructor(text: string, rules: Rules, path: Path) {
    this.#scanner = new Scanner(text, path);
    this.#rules = rules;
    this.#path = path;
  }

  rules(): Map<string, NamedRule> {
    const scanner = this.#scanner;
    for (scanner.skipSpace(); !scanner.isAtEnd; scanner.skipSpace()) {
      if (!scanner.isDefinition()) throw scanner.error("expected a rule, such as root ::= …");
      this.#current = scanner.name()!;
      scanner.skipSpace();
      scanner.take("::=");
      const rule = this.#rule(this.#current);
      if (rule.expression !== undefined) throw scanner.error("the rule is defined twice");
      const expression = this.#alternatives();
      rule.expression = expression;
      rule.define(expression);
    }
    return this.#named;
  }

  #rule(name: string): OpenRule {
    const known = this.#named.get(name);
    if (known) return known;
    if (this.#named.size === LIMITS.grammarRulesMax) {
      throw this.#scanner.error(`there are more than ${LIMITS.grammarRulesMax} rules`);
    }
    const path = [...this.#path, name];
    const rule: OpenRule = { name, path, user: this.#current, ...this.#rules.reserve(path) };
    this.#named.set(name, rule);
    return rule;
  }

  /** Up to a closing parenthesis, the next rule, or the end. */
  #alternatives(): Expression {
    const parts = [this.#sequence()];
    while (this.#scanner.take("|")) parts.push(this.#sequence());
    return choice(parts);
  }

  #sequence(): Expression {
    const scanner = this.#scanner;
    const parts: Expression[] = [];
    for (scanner.skipSpace(); !this.#isEndOfSequence(); scanner.skipSpace()) {
      parts.push(this.#repeated(this.#part()));
    }
    return sequence(...parts);
  }

  #isEndOfSequence(): boolean {
    const scanner = this.#scanner;
    return scanner.isAtEnd || scanner.isNext("|") || scanner.isNext(")") || scanner.isDefinition();
  }

  #part(): Expression {
    const scanner = this.#scanner;
    if (scanner.take('"')) return this.#literal();
    if (scanner.take("[")) return this.#characters(this.#set());
    if (scanner.take(".")) return this.#characters(ANY_CHARACTER);
    if (scanner.take("(")) return this.#group();
    const name = scanner.name();
    if (name !== undefined) return this.#rule(name).reference;
    throw scanner.error("expected a literal, a set, a group or the name of a rule");
  }

  #literal(): Expression {
    const codes: number[] = [];
    while (!this.#scanner.take('"')) codes.push(this.#scanner.character());
    return codes.map((code) => String.fromCodePoint(code)).join("");
  }

  #set(): CharSet {
    const scanner = this.#scanner;
    const isNegated = scanner.take("^");
    const ranges: { min: number; max: number }[] = [];
    while (!scanner.take("]")) {
      const min = scanner.character();
      const isRange = scanner.isNext("-") && !scanner.isNext("-]") && scanner.take("-");
      const max = isRange ? scanner.character() : min;
      if (max < min) throw scanner.error("a range of characters ends before it begins");
      ranges.push({ min, max });
    }
    const set = setOf(ranges);
    return isNegated ? ANY_CHARACTER.without(set) : characters(set);
  }

  #characters(set: CharSet): Expression {
    const expression = PLAIN(set);
    if (set.isEmpty || expression === null) throw this.#scanner.error("a set has no characters");
    this.#rules.spend(set.ranges.length, this.#path);
    const isLarge = set.ranges.length > INLINE_RANGES_MAX || set === ANY_CHARACTER;
    return isLarge ? this.#rules.add(expression, this.#path) : expression;
  }

  #group(): Expression {
    if (++this.#depth > LIMITS.regexDepthMax) {
      throw this.#scanner.error(`more than ${LIMITS.regexDepthMax} groups are within each other`);
    }
    const expression = this.#alternatives();
    if (!this.#scanner.take(")")) throw this.#scanner.error("a group is not closed");
    this.#depth--;
    return expression;
  }

  #repeated(part: Expression): Expression {
    const scanner = this.#scanner;
    scanner.skipSpace();
    if (scanner.take("*")) return repeat(part, 0, null);
    if (scanner.take("+")) return repeat(part, 1, null);
    if (scanner.take("?")) return repeat(part, 0, 1);
    if (!scanner.take("{")) return part;
    const count = this.#count();
    const isRange = scanner.take(",");
    const min = count ?? 0;
    const max = isRange ? (this.#count() ?? null) : min;
    const isCount = isRange || count !== undefined;
    if (!isCount || !scanner.take("}")) {
      throw scanner.error("expected a repetition, such as {2,5}");
    }
    if (max !== null && max < min) throw scanner.error("a repetition ends before it begins");
    return repeat(part, min, max);
  }

  #count(): number | undefined {
    this.#scanner.skipSpace();
    const count = this.#scanner.number();
    this.#scanner.skipSpace();
    if (count !== undefined && count > LIMITS.grammarRepetitionsMax) {
      const message = `a part is repeated at most ${LIMITS.grammarRepetitionsMax} times`;
      throw this.#scanner.error(message);
    }
    return count;
  }
}
