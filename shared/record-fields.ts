/** What Redis gives back, text always, as the values that it stands for. */
import * as v from "valibot";

/** JSON text as the value that it stands for. */
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

/** A whole number; and one that may be absent or empty. */
export const count = v.pipe(v.string(), v.regex(/^\d+$/), v.transform(Number));
export const countOrNull = v.optional(
  v.pipe(
    v.string(),
    v.transform((s) => (s === "" ? null : Number(s))),
  ),
  "",
);
