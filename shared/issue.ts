/**
 * From a schema's issue to the error that a caller reads: it names the field by its path and tells the limit,
 * and repeats of what was sent only numbers and names, shortened.
 */
import type { BaseIssue } from "valibot";
import { AppError } from "./errors.ts";

type Issue = BaseIssue<unknown>;
type Keys = readonly PropertyKey[];

/** Characters of a caller's field name that an error repeats. */
const NAME_CHARS_MAX = 64;

export function issueError(issue: Issue): AppError {
  return describe(issue, []);
}

function describe(issue: Issue, parents: Keys): AppError {
  const keys = [...parents, ...(issue.path ?? []).map(({ key }) => key as PropertyKey)];
  const param = keys.map(nameOf).join(".");
  if (isUnknownField(issue)) return unsupported(param, `${param} is not a supported parameter`);
  if (issue.type === "never") return unsupported(param, `${param} is not supported`);
  if (issue.type === "literal" || issue.type === "variant") {
    return unsupported(param, `${param} must be ${choices(issue)}: other values are not supported`);
  }
  if (issue.type === "union") return describeUnion(issue, keys, param);
  const wrong = issue.input === undefined ? "is required" : complaint(issue);
  return invalid(param, `${param === "" ? "The body" : param} ${wrong}`);
}

/** Says what the union takes, and, where a branch went further into the value than the others, what stopped it there. */
function describeUnion(issue: Issue, keys: Keys, param: string): AppError {
  const takes = `${param} must be ${expectation(issue.message)}`;
  const inside = issue.issues?.find(({ path }) => path !== undefined);
  if (inside === undefined) return invalid(param, takes);
  const error = describe(inside, keys);
  return new AppError(error.code, `${takes} (${error.message})`, { param: error.param ?? param });
}

/** What is wrong, as the end of a sentence that begins with the field. */
function complaint(issue: Issue): string {
  const { type, received } = issue;
  const requirement = Array.isArray(issue.requirement)
    ? issue.requirement.join(", ")
    : String(issue.requirement);
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
      return `must be ${TYPES[type] ?? choices(issue)}, received ${kind(issue.input)}`;
  }
}

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

/** `"a" | "b"`, which valibot puts in parentheses. */
const choices = ({ expected }: Issue) =>
  expected === "Object" ? "an object" : (expected?.replaceAll(/[()]/g, "") ?? "valid");

/** The schemas' own messages say "Expected …". */
const expectation = (message: string) => message.replace(/^Expected /, "");

/** The kind of a value, which gives nothing of it away. */
function kind(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "an array";
  return typeof value === "object" ? "an object" : `a ${typeof value}`;
}

/** A field may have no name at all. */
const nameOf = (key: PropertyKey) => (key === "" ? '""' : shorten(String(key)));

const shorten = (text: string) =>
  text.length <= NAME_CHARS_MAX ? text : `${text.slice(0, NAME_CHARS_MAX)}…`;

function invalid(param: string, message: string): AppError {
  return new AppError("invalid_request", message, param === "" ? {} : { param });
}

function unsupported(param: string, message: string): AppError {
  return new AppError("unsupported_parameter", message, { param });
}
