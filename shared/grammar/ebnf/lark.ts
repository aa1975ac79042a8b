/**
 * From a grammar of the Lark toolkit to the expression of its outputs: the texts that Lark reads when it may split them into terminals
 * in any way (its lexer `dynamic_complete`).
 */
import { choice, repeat, sequence, type Rules } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import { isTerminal, parseLark, type LarkGrammar, type LarkPart } from "./lark-parser.ts";
import { LarkTerminals } from "./lark-terminals.ts";
import { NamedRules } from "./named-rules.ts";

/** The rule of the whole output; the first one in a grammar without it. */
const START = "start";

/**
 * @param path keys from the top of the format to the grammar
 * @throws GrammarError for what is not Lark's syntax or is not supported, and if the budget is exceeded
 */
export function larkExpression(text: string, rules: Rules, path: Path): Expression {
  const grammar = parseLark(text, path);
  const [first] = grammar.definitions.keys();
  if (first === undefined) throw new GrammarError(path, "must define a rule");
  return new LarkRules(grammar, rules, path).root(grammar.definitions.has(START) ? START : first);
}

class LarkRules {
  readonly #grammar: LarkGrammar;
  readonly #named: NamedRules;
  readonly #terminals: LarkTerminals;
  /** The text of `%ignore`, which may follow any terminal. */
  readonly #ignored: Expression;

  constructor(grammar: LarkGrammar, rules: Rules, path: Path) {
    this.#grammar = grammar;
    this.#named = new NamedRules(rules, path, (problem) => new GrammarError(path, problem));
    this.#terminals = new LarkTerminals(grammar, rules, path);
    const ignored = grammar.ignored.map((part) => this.#terminals.expression(part, ""));
    this.#ignored = ignored.length === 0 ? "" : rules.add(repeat(choice(ignored), 0, null), path);
  }

  root(start: string): Expression {
    if (isTerminal(start)) return this.#terminal({ kind: "name", name: start }, start);
    for (const [name, content] of this.#grammar.definitions) {
      if (isTerminal(name)) continue;
      this.#named.rule(name, name);
      this.#named.define(name, this.#expression(content, name));
    }
    return sequence(this.#ignored, this.#named.root(start));
  }

  #expression(part: LarkPart, rule: string): Expression {
    switch (part.kind) {
      case "all":
        return sequence(...part.parts.map((each) => this.#expression(each, rule)));
      case "any":
        return choice(part.parts.map((each) => this.#expression(each, rule)));
      case "repeat":
        return repeat(this.#expression(part.of, rule), part.min, part.max);
      case "name":
        return isTerminal(part.name)
          ? this.#terminal(part, rule)
          : this.#named.rule(part.name, rule).reference;
      case "text":
      case "pattern":
      case "range":
        return this.#terminal(part, rule);
    }
  }

  #terminal(part: LarkPart, rule: string): Expression {
    const expression = this.#terminals.expression(part, rule);
    return expression === "" ? expression : sequence(expression, this.#ignored);
  }
}
