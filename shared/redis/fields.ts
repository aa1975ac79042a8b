/** Parsers for the fields of Redis hashes, which are always strings. */
import * as v from "valibot";

/** A value from JSON text. */
export const fromJson = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    try {
      return JSON.parse(dataset.value) as unknown;
    } catch {
      addIssue({ message: "Invalid JSON" });
      return NEVER;
    }
  }),
);

/** A whole number, 0 or more. */
export const count = v.pipe(v.string(), v.regex(/^\d+$/), v.transform(Number));
/** A number, or null for an absent or empty field. */
export const countOrNull = v.optional(
  v.pipe(
    v.string(),
    v.transform((s) => (s === "" ? null : Number(s))),
  ),
  "",
);
