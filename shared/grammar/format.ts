/**
 * Compiles `response_format` to the grammar of the output.
 *
 * The folder grammar/ owns the way from a response format to tables. A format becomes expressions (schema/ for JSON Schemas, text/
 * for patterns, numbers and strings, ebnf/ for grammars of the request), which are the rules of a grammar (rules/). The grammar
 * becomes a nondeterministic automaton, a deterministic one, and its tables (automaton/). It knows bytes, and no tokens: the
 * masks over a vocabulary are in worker/engine/grammar/.
 */
import type { ResponseFormat } from "../api/response-formats.ts";
import { AppError } from "../api/errors.ts";
import { grammarParts } from "./automaton/compile.ts";
import { grammarExpression } from "./ebnf/ebnf.ts";
import { prune } from "./rules/prune.ts";
import { Rules } from "./rules/expressions.ts";
import { BudgetError, GrammarError } from "./rules/grammar-error.ts";
import type { Expression, Grammar } from "./rules/grammar.ts";
import { allParts, type Parts } from "./rules/parts.ts";
import { anyValue } from "./text/json.ts";
import { PLAIN } from "./text/characters.ts";
import { regexExpression } from "./text/regex.ts";
import { SchemaGrammar } from "./schema/schema.ts";

/** Longest path that an error message repeats, in characters. */
const PATH_CHARS_MAX = 200;

/**
 * Compiles a response format.
 * @returns null if any text is allowed
 * @throws AppError invalid_request, unsupported_parameter, with the path of the keyword in `param`
 */
export function compileResponseFormat(format: ResponseFormat): Grammar | null {
  return allParts(outputParts("response_format", (rules) => formatExpression(format, rules)));
}

/** The outputs of a response format; null for any text. @throws GrammarError */
export function formatExpression(format: ResponseFormat, rules: Rules): Expression | null {
  const field = "response_format";
  switch (format.type) {
    case "text":
      return null;
    case "json_object":
      return anyValue(rules, [field]).object;
    case "json_schema": {
      const path = [field, "json_schema", "schema"];
      const { schema, strict } = format.json_schema;
      return new SchemaGrammar(schema, rules, path, { isClosed: strict === true }).root();
    }
    case "regex": {
      const path = [field, "pattern"];
      return rules.add(regexExpression(format.pattern, { alphabet: PLAIN, rules, path }), path);
    }
    case "grammar":
      return grammarExpression(format.grammar, rules, [field, "grammar"]);
  }
}

/**
 * Makes a grammar of an expression, in parts. The grammar is also compiled to its automaton once, only to check its cost: what passes
 * here is not refused by the worker. If it takes too many steps, it is made again with smaller expressions.
 * @param field of the request that an error without a path is about
 * @param root the outputs; null for any text. The paths of its parts begin at the top of the request.
 * @throws AppError invalid_request, unsupported_parameter, with the path of the keyword in `param`
 */
export function* outputParts(
  field: string,
  root: (rules: Rules) => Expression | null,
): Parts<Grammar | null> {
  try {
    const rules = new Rules();
    try {
      return yield* checkedParts(root, rules);
    } catch (error) {
      // Smaller objects have a smaller automaton. Their expressions take as many steps.
      const mayFit = rules.canBeSmaller && rules.areWritten;
      if (!(error instanceof BudgetError) || !mayFit) throw error;
    }
    yield;
    return yield* checkedParts(root, new Rules({ isSmall: true }));
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    const path = error.path.length === 0 ? field : error.path.join(".");
    const param = path.length <= PATH_CHARS_MAX ? path : `${path.slice(0, PATH_CHARS_MAX)}…`;
    const code = error.unsupported ? "unsupported_parameter" : "invalid_request";
    throw new AppError(code, `${param} ${error.message}`, { param });
  }
}

function* checkedParts(
  root: (rules: Rules) => Expression | null,
  rules: Rules,
): Parts<Grammar | null> {
  const expression = root(rules);
  if (expression === null) return null;
  yield;
  const grammar = prune(rules.toGrammar(expression), rules.budget, rules.origins);
  if (grammar === null) throw new GrammarError([], "allows no finite text");
  yield;
  yield* grammarParts(grammar, rules.budget, rules.origins);
  return grammar;
}
