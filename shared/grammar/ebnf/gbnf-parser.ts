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
import { NamedRules } from "./named-rules.ts";
import { Scanner, type Syntax } from "./scanner.ts";

const NAME = /[A-Za-z_][\w-]*/uy;
const GBNF: Syntax = {
  name: "GBNF",
  space: /(?:\s|#[^\r\n]*)*/uy,
  ruleName: NAME,
  head: NAME,
  defines: "::=",
  escapes: {
    n: "\n",
    r: "\r",
    t: "\t",
    '"': '"',
    "\\": "\\",
    "[": "[",
    "]": "]",
    "-": "-",
    "^": "^",
  },
};

/** A set with more ranges of characters becomes a rule of its own, which all its occurrences share. */
const INLINE_RANGES_MAX = 8;

/** Steps of reading a set of characters, and of writing one for the first time, beside those of each range. */
const SET_STEPS = 16;
const WRITING_STEPS = 32;

/** @param path keys from the top of the format to the grammar */
export class GbnfParser {
  readonly #scanner: Scanner;
  readonly #rules: Rules;
  readonly #path: Path;
  readonly #named: NamedRules;
  /** By the characters: most grammars repeat a few sets. */
  readonly #sets = new Map<string, Expression>();
  /** The rule that is being read. */
  #current = "";
  #depth = 0;

  constructor(text: string, rules: Rules, path: Path) {
    this.#scanner = new Scanner(text, path, GBNF);
    this.#rules = rules;
    this.#path = path;
    this.#named = new NamedRules(rules, path, (problem) => this.#scanner.error(problem));
  }

  /**
   * The rules that the grammar defines or uses.
   * @throws GrammarError for a syntax error, and if the budget is exceeded
   */
  rules(): NamedRules {
    const scanner = this.#scanner;
    for (scanner.skipSpace(); !scanner.isAtEnd; scanner.skipSpace()) {
      if (!scanner.isDefinition()) throw scanner.error("expected a rule, such as root ::= …");
      this.#current = scanner.name()!;
      scanner.skipSpace();
      scanner.take("::=");
      this.#named.rule(this.#current, this.#current);
      this.#named.define(this.#current, this.#alternatives());
    }
    return this.#named;
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
    if (name !== undefined) return this.#named.rule(name, this.#current).reference;
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
    const { length } = set.ranges;
    this.#rules.spend(SET_STEPS + length, this.#path);
    const key = set.ranges.map(({ min, max }) => `${min}-${max}`).join();
    const known = this.#sets.get(key);
    if (known !== undefined) return known;
    this.#rules.spend(WRITING_STEPS + 8 * length, this.#path);
    const expression = PLAIN(set);
    if (set.isEmpty || expression === null) throw this.#scanner.error("a set has no characters");
    const isLarge = length > INLINE_RANGES_MAX || set === ANY_CHARACTER;
    const shared = isLarge ? this.#rules.add(expression, this.#path) : expression;
    this.#sets.set(key, shared);
    return shared;
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
    const { min, max } = scanner.counts();
    return repeat(part, min, max);
  }
}
