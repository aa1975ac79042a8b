/**
 * The parameters in a request's query: a name that its route does not have is refused, as an unknown field of a body is,
 * and so is a parameter that is given twice and is no list. An empty value stands for an absent parameter.
 */
import type * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import type { AppContext } from "./context.ts";

type Fields = Readonly<Record<string, v.GenericSchema>>;

/** Parameters of routes that do not have them, with the values that ask for what happens anyway. */
const NEUTRAL: Readonly<Record<string, string>> = {
  // Anthropic's clients: the method is in beta there.
  beta: "true",
  stream: "false",
  include_obfuscation: "false",
};

const NAME_CHARS_MAX = 64;
/** `metadata[run]` of an object, `include[]` of an array */
const MEMBER = /^(\w+)\[(.*)\]$/s;

/** @throws AppError unsupported_parameter, or invalid_request if a parameter that is no list is given twice */
export function checkQueryNames(c: AppContext, fields: Fields): void {
  for (const [name, values] of Object.entries(c.req.queries())) {
    const isKnown = isParameter(name, fields);
    const param = name.slice(0, NAME_CHARS_MAX);
    if (!isKnown && values.some((value) => !isNeutral(name, value))) {
      const message = `${param} is not a supported parameter of this route's query`;
      throw new AppError("unsupported_parameter", message, { param });
    }
    if (isKnown && values.length > 1 && !isList(name, fields)) {
      throw new AppError("invalid_request", `${param} is given twice`, { param });
    }
  }
}

const isNeutral = (name: string, value: string) =>
  value === "" || (Object.hasOwn(NEUTRAL, name) && NEUTRAL[name] === value);

function isParameter(name: string, fields: Fields): boolean {
  if (Object.hasOwn(fields, name)) return true;
  const [, object, member] = MEMBER.exec(name) ?? [];
  if (object === undefined || !Object.hasOwn(fields, object)) return false;
  return isRecord(fields[object]!) || (member === "" && isArray(fields[object]!));
}

function isList(name: string, fields: Fields): boolean {
  const field = name.replace(/\[\]$/, "");
  return Object.hasOwn(fields, field) && isArray(fields[field]!);
}

/** The values of the parameters, as their schemas take them. Those of an array are sent as `name=value` or `name[]=value`, each. */
export function queryValues(c: AppContext, fields: Fields): Record<string, string | string[]> {
  const values = Object.entries(fields).map(([name, schema]) => {
    if (!isArray(schema)) return [name, c.req.query(name) ?? ""] as const;
    const all = [name, `${name}[]`].flatMap((sent) => c.req.queries(sent) ?? []);
    return [name, all.filter((value) => value !== "")] as const;
  });
  return Object.fromEntries(values.filter(([, value]) => value.length > 0));
}

/** The pairs of a parameter that is an object: `name[key]=value`. */
export function queryPairs(c: AppContext, name: string): [string, string][] {
  return Object.entries(c.req.query()).flatMap(([sent, value]) => {
    const [, object, key] = MEMBER.exec(sent) ?? [];
    return object === name && key !== undefined ? [[key, value]] : [];
  });
}

/** Whether a parameter is an object, which is sent as `name[member]=value`. */
export const isRecord = (schema: v.GenericSchema): boolean => typeOf(schema) === "record";

const isArray = (schema: v.GenericSchema): boolean => typeOf(schema) === "array";

function typeOf(schema: v.GenericSchema): string {
  return ("wrapped" in schema ? (schema.wrapped as v.GenericSchema) : schema).type;
}
