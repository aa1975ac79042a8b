/** Fields that have another name in the Responses API than in a job: `text.format` for `response_format`, also in errors. */
import { AppError } from "../api/errors.ts";
import type { ResponseFormat, TextFormat } from "../api/response-formats.ts";
import { renamed, withFieldNames, type FieldNames } from "./field-names.ts";

/** The inverse of `toTextFormat`. */
export function toResponseFormat(format: TextFormat): ResponseFormat {
  if (format.type !== "json_schema") return format;
  const { type, ...json_schema } = format;
  return { type, json_schema };
}

/** With every member, as the Open Responses specification requires. */
export function toTextFormat(format: ResponseFormat): TextFormat {
  if (format.type !== "json_schema") return format;
  const { description = null, strict, ...json_schema } = format.json_schema;
  return { type: format.type, description, strict: strict ?? false, ...json_schema };
}

const RESPONSE_FIELD_NAMES: FieldNames = [
  ["response_format.json_schema", "text.format"],
  ["response_format", "text.format"],
  ["max_tokens", "max_output_tokens"],
];

/** `tools.0.function.parameters` is `tools.0.parameters` here. Other values are returned unchanged. */
export function withResponseFieldNames(error: unknown): unknown {
  if (!(error instanceof AppError) || error.param?.startsWith("tools.") !== true) {
    return withFieldNames(error, RESPONSE_FIELD_NAMES);
  }
  return renamed(error, (text) => text.replace(/(tools\.\d+)\.function/, "$1"));
}
