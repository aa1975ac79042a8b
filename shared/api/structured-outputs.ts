/** The format of the output as clients of vLLM spell it: `structured_outputs`, and the older `guided_…` fields. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { requestObject } from "./request-object.ts";
import { schema } from "./response-formats.ts";
import { nonEmpty, optional, text } from "./schema.ts";

/** A schema, or its JSON as a text. */
const json = v.union(
  [text(LIMITS.schemaCharsMax), schema],
  `Expected a JSON Schema of at most ${LIMITS.schemaCharsMax} characters, as an object or as JSON in a string`,
);
const regex = nonEmpty(LIMITS.regexCharsMax);
const choice = v.pipe(
  v.array(v.string()),
  v.minLength(1),
  v.maxLength(LIMITS.grammarChoicesMax),
  v.check(
    (choices) => new TextEncoder().encode(choices.join("")).length <= LIMITS.grammarChoiceBytesMax,
    `Expected at most ${LIMITS.grammarChoiceBytesMax} bytes of UTF-8 in all choices together`,
  ),
);
const grammar = nonEmpty(LIMITS.grammarCharsMax);

const StructuredOutputs = requestObject({
  json: optional(json, "A JSON Schema, as in a `response_format` of the type `json_schema`.", {
    examples: [{ type: "object", properties: { city: { type: "string" } } }],
  }),
  regex: optional(regex, "A pattern, as in a `response_format` of the type `regex`.", {
    examples: ["(yes|no)"],
  }),
  choice: optional(
    choice,
    `Texts, of which the output is one: up to ${LIMITS.grammarChoicesMax}, with ${LIMITS.grammarChoiceBytesMax} bytes of UTF-8 together.`,
    { examples: [["positive", "negative"]] },
  ),
  grammar: optional(
    grammar,
    "A grammar in GBNF or Lark, as in a `response_format` of the type `grammar`.",
    {
      examples: ['root ::= "yes" | "no"'],
    },
  ),
  json_object: optional(v.boolean(), "Whether the output is a JSON object. False has no effect.", {
    default: false,
  }),
});

const ALIAS = "As `structured_outputs`, under the older name that vLLM has for its member";

export const structuredOutputFields = {
  structured_outputs: optional(
    StructuredOutputs,
    "The format of the output as vLLM has it, instead of `response_format`. One of its members is set.",
    { examples: [{ choice: ["positive", "negative"] }] },
  ),
  guided_json: optional(json, `${ALIAS} \`json\`.`),
  guided_regex: optional(regex, `${ALIAS} \`regex\`.`),
  guided_choice: optional(choice, `${ALIAS} \`choice\`.`),
  guided_grammar: optional(grammar, `${ALIAS} \`grammar\`.`),
};
const fields = v.strictObject(structuredOutputFields);
export type StructuredOutputFields = v.InferOutput<typeof fields>;
