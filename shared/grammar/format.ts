/** From `response_format` to the grammar that the output keeps to. */
import type { ResponseFormat } from "../contract.ts";
import { AppError } from "../errors.ts";
import type { Grammar } from "../grammar.ts";
import { GrammarError, Rules } from "./expressions.ts";
import { anyValue } from "./json.ts";
import { PLAIN, regexExpression } from "./regex.ts";
import { SchemaGrammar } from "./schema.ts";

/** Characters of a path that an error repeats. */
const PATH_CHARS_MAX = 200;

/** Null where any text may come out. @throws AppError invalid_request, unsupported_parameter */
export function grammarOf(format: ResponseFormat): Grammar | null {
  const rules = new Rules();
  switch (format.type) {
    case "text":
      return null;
    case "json_object":
      return rules.toGrammar(anyValue(rules).object);
    case "json_schema": {
      const param = "response_format.json_schema.schema";
      const { schema } = format.json_schema;
      return at(param, () => rules.toGrammar(new SchemaGrammar(schema, rules).root()));
    }
    case "regex":
      return at("response_format.pattern", () =>
        rules.toGrammar(regexExpression(format.pattern, PLAIN)),
      );
  }
}

function at(field: string, make: () => Grammar): Grammar {
  try {
    return make();
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    const path = [field, ...error.path].join(".");
    const param = path.length <= PATH_CHARS_MAX ? path : `${path.slice(0, PATH_CHARS_MAX)}…`;
    const code = error.unsupported ? "unsupported_parameter" : "invalid_request";
    throw new AppError(code, `${param} ${error.message}`, { param });
  }
}
