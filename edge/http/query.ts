/** The names in a request's query: one that its route does not have is refused, as an unknown field of a body is. */
import type * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import { asksForNothingInQuery } from "../../shared/api/request-object.ts";
import type { AppContext } from "./context.ts";

const NAME_CHARS_MAX = 64;
/** `metadata[run]` */
const MEMBER = /^(\w+)\[.*\]$/s;

/** @throws AppError unsupported_parameter */
export function checkQueryNames(
  c: AppContext,
  fields: Readonly<Record<string, v.GenericSchema>>,
): void {
  for (const [name, value] of Object.entries(c.req.query())) {
    const record = MEMBER.exec(name)?.[1];
    const isKnown =
      Object.hasOwn(fields, name) ||
      (record !== undefined && Object.hasOwn(fields, record) && isRecord(fields[record]!));
    if (isKnown || asksForNothingInQuery(name, value)) continue;
    const param = name.slice(0, NAME_CHARS_MAX);
    const message = `${param} is not a supported parameter of this route's query`;
    throw new AppError("unsupported_parameter", message, { param });
  }
}

/** Whether a parameter is an object, which is sent as `name[member]=value`. */
export function isRecord(schema: v.GenericSchema): boolean {
  const { type } = "wrapped" in schema ? (schema.wrapped as v.GenericSchema) : schema;
  return type === "record";
}
