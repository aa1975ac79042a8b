/**
 * Turns an issue of a schema into the error that the caller gets. The message begins with the field's path and names the limit.
 * It repeats no values of the request except numbers. Long numbers and field names are shortened.
 */
import type { BaseIssue } from "valibot";
import { AppError } from "./errors.ts";

type Issue = BaseIssue<unknown>;
type Keys = readonly PropertyKey[];

/** Characters of a field name or a number of the request that a message repeats. */
const NAME_CHARS_MAX = 64;

export function issueError(issue: Issue): AppError {
  return toError(issue, []);
}

function toError(issue: Issue, parents: Keys): AppError {
  const keys = [...parents, ...(issue.path ?? []).map(({ key }) => key as PropertyKey)];
  const param = keys.map(fieldName).join(".");
  if (isUnknownField(issue)) return unsupported(param, `${param} is not a supported parameter`);
  if (issue.type === "never") return unsupported(param, `${param} is not supported`);
  if (issue.type === "literal" || issue.type === "variant") {
    return unsupported(param, `${param} must be ${choices(issue)}: other values are not supported`);
  }
  if (issue.type === "union") return toUnionError(issue, keys, param);
  if (issue.type === "check" && !EXPECTED.test(issue.message)) return invalid(param, issue.message);
  const problem = issue.input === undefined ? "is required" : problemOf(issue);
  return invalid(param, `${param === "" ? "The body" : param} ${problem}`);
}

/**
 * The message names what the union accepts. If one option matched the value itself and failed inside it, the message also names
 * the problem there. An option that has the fields of the value counts before one of which a field is missing.
 */
function toUnionError(issue: Issue, keys: Keys, param: string): AppError {
  const accepted = `${param} must be ${expectation(issue.message)}`;
  const insides = issue.issues?.filter(({ path }) => path !== undefined) ?? [];
  const isOfValue = (each: Issue) => each.input !== undefined && !isUnknownField(each);
  const inside = insides.find(isOfValue) ?? insides[0];
  if (inside === undefined) return invalid(param, accepted);
  const error = toError(inside, keys);
  return new AppError(error.code, `${accepted} (${error.message})`, {
    param: error.param ?? param,
  });
}

/** The rest of a sentence that begins with the field. */
function problemOf(issue: Issue): string {
  const { type, received } = issue;
  const requirement = Array.isArray(issue.requirement)
    ? issue.requirement.join(", ")
    : decimal(issue.requirement);
  switch (type) {
    case "min_value":
      return `must be at least ${requirement}, received ${shorten(received)}`;
    case "max_value":
      return `must be at most ${requirement}, received ${shorten(received)}`;
    case "gt_value":
      return `must be greater than ${requirement}, received ${shorten(received)}`;
    case "integer":
      return `must be an integer, received ${shorten(received)}`;
    case "min_length":
      if (issue.requirement === 1) return "must not be empty";
      return `must have at least ${requirement} ${unit(issue)}, received ${received}`;
    case "max_length":
      return `must have at most ${requirement} ${unit(issue)}, received ${received}`;
    case "max_entries":
      return `must have at most ${requirement} entries, received ${received}`;
    case "url":
      return "must be a URL";
    case "regex":
    case "check":
    case "custom":
      return `must be ${expectation(issue.message)}`;
    default:
      return `must be ${TYPES[type] ?? choices(issue)}, received ${valueType(issue.input)}`;
  }
}

/** All digits of an integer: `String` rounds those after the 17th. */
const decimal = (requirement: unknown) =>
  Number.isInteger(requirement) ? String(BigInt(requirement as number)) : String(requirement);

const TYPES: Readonly<Record<string, string>> = {
  string: "a string",
  number: "a number",
  boolean: "true or false",
  array: "an array",
  strict_tuple: "a pair",
  strict_object: "an object",
  record: "an object",
};

const isUnknownField = ({ type, expected }: Issue) =>
  type === "strict_object" && expected === "never";

const unit = ({ input }: Issue) => (typeof input === "string" ? "characters" : "items");

/** `"a" | "b"`: valibot adds parentheses. */
const choices = ({ expected }: Issue) =>
  expected === "Object" ? "an object" : (expected?.replaceAll(/[()]/g, "") ?? "valid");

/** Messages of the schemas begin so, except those of checks that are whole sentences. */
const EXPECTED = /^Expected /;
const expectation = (message: string) => message.replace(EXPECTED, "");

/** The type of a value, without its content. */
function valueType(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** The name of a field can be empty. */
const fieldName = (key: PropertyKey) => (key === "" ? '""' : shorten(String(key)));

const shorten = (text: string) =>
  text.length <= NAME_CHARS_MAX ? text : `${text.slice(0, NAME_CHARS_MAX)}…`;

function invalid(param: string, message: string): AppError {
  return new AppError("invalid_request", message, param === "" ? {} : { param });
}

function unsupported(param: string, message: string): AppError {
  return new AppError("unsupported_parameter", message, { param });
}
