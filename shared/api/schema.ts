/**
 * Helpers that the API's schemas are written with: basic types with their bounds, and `field`, which gives a member of an
 * object its text in the API document. A schema that is exported under a capital letter has that name in the document
 * (`#/components/schemas/Name`), and a type of the same name.
 */
import * as v from "valibot";

export const number = (min: number, max: number) =>
  v.pipe(v.number(), v.minValue(min), v.maxValue(max));
export const integer = (min: number, max: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max));
/** Above 0, up to `max`. */
export const positive = (max: number) => v.pipe(v.number(), v.gtValue(0), v.maxValue(max));
export const text = (charsMax: number) => v.pipe(v.string(), v.maxLength(charsMax));
export const nonEmpty = (charsMax: number) =>
  v.pipe(v.string(), v.minLength(1), v.maxLength(charsMax));

/** Keys that `v.record` drops silently. */
const UNSAFE_KEYS = ["__proto__", "prototype", "constructor"];

function problemOf(input: unknown): string | null {
  if (typeof input !== "object" || input === null) return null;
  if (Array.isArray(input) && input.length > 0) return "Expected an object, not a list";
  const unsafe = UNSAFE_KEYS.find((name) => Object.hasOwn(input, name));
  return unsafe === undefined ? null : `Expected an object without the key ${unsafe}`;
}

/**
 * An object with any keys. Those that `v.record` would drop are refused: no part of a request is ignored. So are lists, of which
 * it would make an object with the keys "0", "1", …; an empty one is what some languages send for an empty object.
 */
// @__NO_SIDE_EFFECTS__
export function record<Key extends v.GenericSchema<string>, Value extends v.GenericSchema>(
  key: Key,
  value: Value,
) {
  const schema = v.record(key, value);
  const run: (typeof schema)["~run"] = (dataset, config) => {
    const problem = problemOf(dataset.value);
    // A problem of the whole is said instead of one with a value in it.
    const result = problem === null ? schema["~run"](dataset, config) : dataset;
    if (problem !== null) {
      v._addIssue({ ...schema, type: "custom", message: problem }, "key", result, config);
    }
    return result as ReturnType<(typeof schema)["~run"]>;
  };
  return { ...schema, "~run": run };
}

/** In replies: an integer of 0 or more. */
export const count = v.pipe(v.number(), v.integer(), v.minValue(0));

/** 2026-01-01 as a Unix time in seconds. The times in examples are shortly after it, so that they fit together. */
export const EXAMPLE_TIME = 1_767_225_600;

/** Further notes about a field for the API document. */
interface FieldNotes {
  /** The value that an absent field has, where code applies it and not the schema (`v.optional(…, default)`). */
  readonly default?: string | number | boolean;
  readonly examples?: readonly unknown[];
}

/**
 * A member of an object, with its text for the API document. The notes are copied into the JSON schema as they are.
 * @param description full sentences: the meaning, and unit, range and default where the schema does not show them
 */
// @__NO_SIDE_EFFECTS__
export function field<const Schema extends v.GenericSchema>(
  schema: Schema,
  description: string,
  notes: FieldNotes = {},
) {
  return v.pipe(schema, v.description(description), v.metadata({ ...notes }));
}

/** A field that a request may leave out or set to null. */
// @__NO_SIDE_EFFECTS__
export function optional<const Schema extends v.GenericSchema>(
  schema: Schema,
  description: string,
  notes: FieldNotes = {},
) {
  return field(v.nullish(schema), description, notes);
}

type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;

/** The type of a reply: what its schema describes, read-only at every level. */
export type Reply<Schema extends v.GenericSchema> = DeepReadonly<v.InferOutput<Schema>>;
