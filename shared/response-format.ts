/** `text.format` of a response: the response format of a job, which this protocol spells without its inner object. */
import type { ResponseFormat } from "./contract.ts";
import { AppError } from "./errors.ts";
import type { TextFormat } from "./responses.ts";

export function toResponseFormat(format: TextFormat): ResponseFormat {
  if (format.type !== "json_schema") return format;
  const { type, ...json_schema } = format;
  return { type, json_schema };
}

/** In full, as Open Responses asks. */
export function toTextFormat(format: ResponseFormat): TextFormat {
  if (format.type !== "json_schema") return format;
  const { description = null, strict = null, ...json_schema } = format.json_schema;
  return { type: format.type, description, strict: strict ?? true, ...json_schema };
}

/** A job's fields that a response has under other names; the first that fits counts. */
const NAMES = [
  ["response_format.json_schema", "text.format"],
  ["response_format", "text.format"],
  ["max_tokens", "max_output_tokens"],
] as const;

/** What is thrown, with the field named as the caller named it. */
export function inResponseWords(error: unknown): unknown {
  if (!(error instanceof AppError) || error.param === null) return error;
  const { code, param, message } = error;
  const names = NAMES.find(([field]) => param === field || param.startsWith(`${field}.`));
  if (names === undefined) return error;
  const inWords = (text: string) => text.replace(names[0], names[1]);
  return new AppError(code, inWords(message), { param: inWords(param) });
}
