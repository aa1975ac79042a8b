/** Fields that have another name in the Responses API than in a job: `text.format` for `response_format`, also in errors. */
import { AppError } from "../api/errors.ts";
import type { ResponseFormat, TextFormat } from "../api/response-formats.ts";

/** The inverse of `toTextFormat`. */
export function toResponseFormat(format: TextFormat): ResponseFormat {
  if (format.type !== "json_schema") return format;
  const { type, ...json_schema } = format;
  return { type, json_schema };
}

/** With every member, as the Open Responses specification requires. */
export function toTextFormat(format: ResponseFormat): TextFormat {
  if (format.type !== "json_schema") return format;
  const { description = null, strict = null, ...json_schema } = format.json_schema;
  return { type: format.type, description, strict: strict ?? true, ...json_schema };
}

/** Pairs of [a job's field, the same field of a protocol]. The first entry that fits an error is used. */
export type FieldNames = readonly (readonly [field: string, name: string])[];

export const RESPONSE_FIELD_NAMES: FieldNames = [
  ["response_format.json_schema", "text.format"],
  ["response_format", "text.format"],
  ["max_tokens", "max_output_tokens"],
];

/** The error with the field's name as the protocol spells it. Other values are returned unchanged. */
export function withFieldNames(error: unknown, fieldNames: FieldNames): unknown {
  if (!(error instanceof AppError) || error.param === null) return error;
  const { code, param, message } = error;
  if (param.startsWith("tools.")) {
    const flat = (text: string) => text.replace(/(tools\.\d+)\.function/, "$1");
    return new AppError(code, flat(message), { param: flat(param) });
  }
  const names = fieldNames.find(([field]) => param === field || param.startsWith(`${field}.`));
  if (names === undefined) return error;
  const renamed = (text: string) => text.replace(names[0], names[1]);
  return new AppError(code, renamed(message), { param: renamed(param) });
}
