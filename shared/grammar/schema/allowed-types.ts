/** The types of the values that an alternative allows. */
import type { Alternative } from "./alternatives.ts";
import { isKnownFormat } from "./formats.ts";
import { KEYWORDS, TYPES, typesOf, type Type } from "./keywords.ts";

/** A schema may have many more keywords that are annotations. */
const TYPES_BY_KEYWORD = Object.entries(KEYWORDS);

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
    for (const [keyword, type] of TYPES_BY_KEYWORD) {
      if (!Object.hasOwn(claim.schema, keyword)) continue;
      const value = claim.schema[keyword];
      if (!isEmpty(value) && !(keyword === "format" && !isKnownFormat(value))) about.add(type);
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
