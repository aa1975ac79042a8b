/** The formats that an output can be restricted to, in the two spellings of OpenAI's protocols. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { requestObject } from "./request-object.ts";
import { field, nonEmpty, optional, text } from "./schema.ts";

/** An object of a client. It keeps every key, also those such as `__proto__`, which a record would drop. */
export const jsonObject = (charsMax: number) =>
  v.pipe(
    v.custom<Readonly<Record<string, unknown>>>(
      (value) => typeof value === "object" && value !== null && !Array.isArray(value),
      "Expected an object",
    ),
    v.check(
      (object) => JSON.stringify(object).length <= charsMax,
      `Expected at most ${charsMax} characters of JSON`,
    ),
  );

export const schema = jsonObject(LIMITS.schemaCharsMax);

export const jsonSchemaFields = {
  name: field(
    v.pipe(v.string(), v.regex(/^[\w-]{1,64}$/, "Expected 1 to 64 letters, digits, _ and -")),
    "A name for the schema. It does not change the output.",
    { examples: ["answer"] },
  ),
  description: optional(
    text(LIMITS.promptCharsMax),
    "What the schema is for. It does not change the output.",
  ),
  schema: field(
    schema,
    `The JSON Schema of the output (drafts 4 to 2020-12), up to ${LIMITS.schemaCharsMax} characters as JSON. Every keyword that restricts values is held or refused by its path; other keywords are annotations. Beside a \`$ref\`, keywords are ignored if \`$schema\` names a draft up to 7; otherwise, also without \`$schema\`, they hold, too. Not supported: \`$dynamicRef\`, references to other documents, \`unevaluatedItems\`, \`uniqueItems\` of items that are not constants, the format \`regex\`, and negations that no grammar can express.`,
    {
      examples: [
        {
          type: "object",
          properties: { city: { type: "string", description: "A city." } },
          required: ["city"],
        },
      ],
    },
  ),
  strict: optional(
    v.boolean(),
    "The output validates against the schema in any case. With `true`, objects that declare properties have no others, unless a keyword such as `additionalProperties` speaks of them: models that were not trained for it tend to write such properties without end.",
    { default: false },
  ),
};

/** The formats that both spellings have in common. */
const commonFormats = [
  requestObject({ type: field(v.literal("text"), "`text`: any text.") }),
  requestObject({
    type: field(v.literal("json_object"), "`json_object`: a JSON object on one line."),
  }),
  requestObject({
    type: field(
      v.literal("regex"),
      "`regex`: a text that the whole pattern matches. OpenAI's API has no such format.",
    ),
    pattern: field(
      nonEmpty(LIMITS.regexCharsMax),
      "A JavaScript regular expression with the flag `u`, matched against the whole output. Lookaround, back references and `\\b` are not supported.",
      { examples: ["(yes|no)"] },
    ),
  }),
  requestObject({
    type: field(
      v.literal("grammar"),
      "`grammar`: a text of a context-free grammar. OpenAI's API has no such format.",
    ),
    grammar: field(
      nonEmpty(LIMITS.grammarCharsMax),
      `A grammar in GBNF or Lark, up to ${LIMITS.grammarCharsMax} characters and ${LIMITS.grammarRulesMax} rules. It is GBNF, the syntax of llama.cpp, if it has \`::=\`: rules such as \`root ::= "yes" | "no"\`, with literals, sets of characters, groups, \`* + ? {m,n}\`, references to rules, which may be recursive, and comments. The output is a text of the rule \`root\`. Otherwise it is Lark: rules and terminals such as \`start: "yes"i | /no+/\`, with strings, patterns of JavaScript with the flags i, s and u, ranges, groups, \`* + ? ~m..n\`, \`%ignore\` and \`%import common.NAME\`. The output is a text of the rule \`start\`, or of the first rule without it, split into terminals in any way. Not supported: templates, other directives and libraries, assertions at the edges of a terminal. In both a rule may begin with itself, but not by way of other rules.`,
      { examples: ['root ::= "yes" | "no"'] },
    ),
  }),
] as const;

const jsonSchemaType = field(
  v.literal("json_schema"),
  "`json_schema`: JSON on one line that validates against a schema, properties in the order of the schema.",
);

export const ResponseFormat = v.pipe(
  v.variant("type", [
    ...commonFormats,
    requestObject({
      type: jsonSchemaType,
      json_schema: field(requestObject(jsonSchemaFields), "The schema and its name."),
    }),
  ]),
  v.description("The format of the output, as chats and completions spell it."),
);
export type ResponseFormat = v.InferOutput<typeof ResponseFormat>;

/** The Responses API spells `json_schema` without the inner object. */
export const TextFormat = v.pipe(
  v.variant("type", [
    ...commonFormats,
    requestObject({ type: jsonSchemaType, ...jsonSchemaFields }),
  ]),
  v.description("The format of the output, as responses spell it."),
);
export type TextFormat = v.InferOutput<typeof TextFormat>;
