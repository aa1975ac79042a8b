/** The types of the values that an alternative allows. */
import type { Alternative } from "./alternatives.ts";
import { KEYWORDS, TYPES, typesOf, type Type } from "./keywords.ts";

/** Whether a keyword's value says nothing, as `properties: {}`. */
const isEmpty = (value: unknown) =>
  typeof value === "object" && value !== null && Object.keys(value).length === 0;

/** The types that all parts allow, and those of them that the keywords are about if no part has `type`. */
export function allowedTypes(parts: Alternative): {
  readonly types: readonly Type[];
  readonly implied: readonly Type[];
} {
  let types: readonly Type[] = TYPES;
  let isTyped = false;
  const about = new Set<Type>();
  for (const { claim, notPatterns, notStrings } of parts) {
    const named = typesOf(claim.schema, claim.path);
    if (named) types = types.filter((type) => named.types.has(type));
    isTyped ||= named !== null;
    if (notPatterns || notStrings) about.add("string");
    for (const [keyword, value] of Object.entries(claim.schema)) {
      if (Object.hasOwn(KEYWORDS, keyword) && !isEmpty(value)) about.add(KEYWORDS[keyword]!);
    }
  }
  return { types, implied: isTyped ? [] : types.filter((type) => about.has(type)) };
}

/** Keywords, names and required names of an alternative's parts: what a look at them takes. */
export function widthOf(parts: Alternative): number {
  let width = 0;
  for (const { claim } of parts) {
    for (const list of [claim.schema, claim.schema["properties"], claim.schema["required"]]) {
      if (typeof list === "object" && list !== null) width += Object.keys(list).length;
    }
  }
  return width;
}
