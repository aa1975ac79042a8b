/** Which words of JSON Schema are understood, and where. */
import { GrammarError } from "./expressions.ts";

export type Schema = Readonly<Record<string, unknown>>;
/** Keys from the schema's root. */
export type Path = readonly string[];

/** They say nothing of what is valid. */
export const ANNOTATIONS = [
  "$schema",
  "$id",
  "$comment",
  "$defs",
  "definitions",
  "title",
  "description",
  "default",
  "examples",
  "deprecated",
  "readOnly",
  "writeOnly",
] as const;

const NUMERIC = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];

/** Beside `type` and annotations. */
const KEYWORDS = {
  null: [],
  boolean: [],
  integer: NUMERIC,
  number: NUMERIC,
  string: ["minLength", "maxLength", "pattern", "format"],
  array: ["items", "prefixItems", "minItems", "maxItems", "uniqueItems"],
  object: ["properties", "required", "additionalProperties"],
} as const satisfies Record<string, readonly string[]>;

export type Type = keyof typeof KEYWORDS;
const TYPES = Object.keys(KEYWORDS) as Type[];

const DATE =
  "\\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\\d|30)|02-(?:0[1-9]|1\\d|2[0-8]))";
const TIME =
  "(?:[01]\\d|2[0-3]):[0-5]\\d:[0-5]\\d(?:\\.\\d{1,6})?(?:Z|[+-](?:0\\d|1[0-4]):[0-5]\\d)";
const BYTE = "(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)";

/** Formats as patterns. Leap days are left out of dates. */
export const FORMATS: ReadonlyMap<string, string> = new Map([
  ["date-time", `${DATE}T${TIME}`],
  ["date", DATE],
  ["time", TIME],
  ["uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"],
  ["ipv4", `${BYTE}(?:\\.${BYTE}){3}`],
  [
    "email",
    "[A-Za-z0-9_+-]+(?:\\.[A-Za-z0-9_+-]+)*@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?\\.)+[A-Za-z]{2,18}",
  ],
]);

export function isObject(value: unknown): value is Schema {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** The types that a schema names or that its words imply; null if it is about none. */
export function typesOf(schema: Schema, path: Path): readonly Type[] | null {
  const { type } = schema;
  if (type === undefined) {
    const implied = TYPES.filter((type) => KEYWORDS[type].some((keyword) => keyword in schema));
    // A word about numbers is as good about integers.
    const [first] = implied.toReversed();
    return first === undefined ? null : [first];
  }
  const types: unknown[] = Array.isArray(type) ? type : [type];
  if (types.length === 0 || !types.every((name) => TYPES.includes(name as Type))) {
    throw new GrammarError([...path, "type"], `must be one or several of ${TYPES.join(", ")}`);
  }
  return types as Type[];
}

/** @param allowed words, or the types whose words are @throws GrammarError naming the word that is not */
export function checkKeywords(
  schema: Schema,
  allowed: readonly string[] | readonly Type[],
  path: Path,
): void {
  const known = new Set<string>([...ANNOTATIONS, ...allowed]);
  if (allowed.every((name) => TYPES.includes(name as Type))) {
    known.add("type");
    for (const type of allowed) for (const keyword of KEYWORDS[type as Type]) known.add(keyword);
  }
  const other = Object.keys(schema).find((keyword) => !known.has(keyword));
  if (other === undefined) return;
  throw new GrammarError([...path, other], "is not supported here", { unsupported: true });
}

/** The types that a value is of. */
export function typeOf(value: unknown): readonly Type[] {
  if (value === null) return ["null"];
  if (Array.isArray(value)) return ["array"];
  if (typeof value === "number")
    return Number.isInteger(value) ? ["integer", "number"] : ["number"];
  return [typeof value as Type];
}

/** A keyword's count, or null. */
export function count(schema: Schema, keyword: string, path: Path): number | null {
  const value = wholeNumber(schema, keyword, path);
  if (value !== null && value < 0)
    throw new GrammarError([...path, keyword], "must not be negative");
  return value;
}

/** A keyword's integer, or null. */
export function wholeNumber(schema: Schema, keyword: string, path: Path): number | null {
  const value = schema[keyword];
  if (value === undefined) return null;
  if (Number.isSafeInteger(value)) return value as number;
  const message = "must be a safe integer: other bounds are not supported";
  throw new GrammarError([...path, keyword], message, { unsupported: true });
}
