/** From a grammar of the request, in GBNF or Lark, to the expression of its outputs. */
import type { Rules } from "../rules/expressions.ts";
import type { Expression } from "../rules/grammar.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";
import { GbnfParser } from "./gbnf-parser.ts";
import { larkExpression } from "./lark.ts";

/**
 * @param path keys from the top of the format to the grammar
 * @throws GrammarError for a syntax error, a rule that is not defined, left recursion, and if the budget is exceeded
 */
export function grammarExpression(text: string, rules: Rules, path: Path): Expression {
  rules.spend(text.length, path);
  if (!isGbnf(text)) return larkExpression(text, rules, path);
  const named = new GbnfParser(text, rules, path).rules();
  if (named.has("root")) return named.root("root");
  throw new GrammarError(path, "must be a grammar in GBNF that defines the rule root");
}

/** As vLLM tells them apart: GBNF has `::=` somewhere outside of what looks like a comment of either language. */
const isGbnf = (text: string) =>
  text.split("\n").some((line) => line.slice(0, line.search(COMMENT)).includes("::="));

/** The end of a line counts as one, so that every line has a place where its comment begins. */
const COMMENT = /#|\/\/|$/u;
