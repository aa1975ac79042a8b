/** vLLM's fields for the format of the output, as our `response_format`. */
import { AppError } from "../api/errors.ts";
import { parseJson } from "../api/json-text.ts";
import type { ResponseFormat } from "../api/response-formats.ts";
import type { StructuredOutputFields } from "../api/structured-outputs.ts";
import { withFieldNames, type FieldNames } from "./field-names.ts";

/** The format of the output that a request asks for. */
export interface OutputFormat {
  readonly response_format: ResponseFormat | null | undefined;
  /** The field of a job that has a part of the format, and the field of the request that it comes from. */
  readonly fieldNames: FieldNames;
}

/**
 * @param own the format under the protocol's own name
 * @param ownName that name
 * @throws AppError invalid_request if a request has several formats, or a schema that is no JSON object
 */
export function outputFormat(
  body: StructuredOutputFields,
  own: ResponseFormat | null | undefined,
  ownName = "response_format",
): OutputFormat {
  const [given, other] = formatsOf(body);
  if (given === undefined) return { response_format: own, fieldNames: [] };
  const [name, format] = given;
  const otherName = other?.[0] ?? (own && own.type !== "text" ? ownName : undefined);
  if (otherName === undefined) return format(name);
  const message = `${name} must be absent beside ${otherName}: an output has one format`;
  throw new AppError("invalid_request", message, { param: name });
}

/** Gives an error of the format the name of the request's field. */
export const withFormatNames =
  ({ fieldNames }: OutputFormat) =>
  (error: unknown) =>
    withFieldNames(error, fieldNames);

type NamedFormat = readonly [name: string, format: (name: string) => OutputFormat];

/** The formats that a request has, by the names of their fields. */
function formatsOf(body: StructuredOutputFields): NamedFormat[] {
  const { guided_json, guided_regex, guided_choice, guided_grammar } = body;
  const guided = { json: guided_json, regex: guided_regex, choice: guided_choice };
  return [
    ...namedFormats("structured_outputs.", body.structured_outputs ?? {}),
    ...namedFormats("guided_", { ...guided, grammar: guided_grammar }),
  ];
}

function namedFormats(
  prefix: string,
  formats: NonNullable<StructuredOutputFields["structured_outputs"]>,
): NamedFormat[] {
  const { json, regex, choice, grammar, json_object } = formats;
  const named: NamedFormat[] = [];
  if (json != null) named.push([`${prefix}json`, (name) => schemaFormat(json, name)]);
  if (regex != null) named.push([`${prefix}regex`, (name) => regexFormat(regex, name)]);
  if (choice != null) {
    named.push([`${prefix}choice`, (name) => grammarFormat(choiceGrammar(choice), name)]);
  }
  if (grammar != null) named.push([`${prefix}grammar`, (name) => grammarFormat(grammar, name)]);
  if (json_object) {
    const format = { response_format: { type: "json_object" }, fieldNames: [] } as const;
    named.push([`${prefix}json_object`, () => format]);
  }
  return named;
}

function schemaFormat(
  json: string | Readonly<Record<string, unknown>>,
  name: string,
): OutputFormat {
  const schema = typeof json === "string" ? parseSchema(json, name) : json;
  return {
    response_format: { type: "json_schema", json_schema: { name: "output", schema } },
    fieldNames: fieldNames("response_format.json_schema.schema", name),
  };
}

const regexFormat = (pattern: string, name: string): OutputFormat => ({
  response_format: { type: "regex", pattern },
  fieldNames: fieldNames("response_format.pattern", name),
});

const grammarFormat = (grammar: string, name: string): OutputFormat => ({
  response_format: { type: "grammar", grammar },
  fieldNames: fieldNames("response_format.grammar", name),
});

const fieldNames = (field: string, name: string): FieldNames => [
  [field, name],
  ["response_format", name],
];

/** @throws AppError invalid_request */
function parseSchema(text: string, name: string): Readonly<Record<string, unknown>> {
  const schema = parseNamed(text, name);
  if (typeof schema === "object" && schema !== null && !Array.isArray(schema)) {
    return schema as Readonly<Record<string, unknown>>;
  }
  const message = `${name} must be a JSON Schema that is an object`;
  throw new AppError("invalid_request", message, { param: name });
}

function parseNamed(text: string, name: string): unknown {
  try {
    return parseJson(text, name, { isSchema: true });
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    throw new AppError(error.code, error.message, { param: name, cause: error.cause });
  }
}

/** A grammar whose texts are the choices. */
function choiceGrammar(choices: readonly string[]): string {
  return `root ::= ${choices.map(literal).join(" | ")}`;
}

/** A text as a literal of a grammar. */
function literal(text: string): string {
  const escaped = text.replaceAll(/["\\\p{Cc}]/gu, (character) =>
    character === '"' || character === "\\"
      ? `\\${character}`
      : `\\x${character.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
  return `"${escaped}"`;
}
