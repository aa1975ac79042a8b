/** Pages of lists, as OpenAI's clients request them: `limit`, `order`, and `after`, the last id of the page before. */
import * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { field } from "../../shared/api/schema.ts";

const LIMIT_DEFAULT = "20";

/** A whole number from 1, as a query has it. */
export const pageLimit = (max: number) =>
  v.pipe(
    v.string(),
    v.regex(/^-?\d{1,15}$/, `Expected a whole number from 1 to ${max}`),
    v.transform(Number),
    v.number(),
    v.integer(),
    v.minValue(1),
    v.maxValue(max),
  );

/** The query of the routes that call `pageOf` or `pageReply`. */
export const PAGE_QUERY = {
  limit: field(
    v.optional(pageLimit(LIMITS.pageMax), LIMIT_DEFAULT),
    "The largest number of objects on the page.",
    { examples: [50] },
  ),
  order: field(
    v.optional(v.picklist(["asc", "desc"]), "desc"),
    "The order by age: `desc` begins with the newest object, `asc` with the oldest.",
    { examples: ["asc"] },
  ),
  after: field(
    v.optional(v.string()),
    "The id of the last object of the page before, `last_id`. Without it the first page is returned.",
  ),
};
/** The same for lists that begin with the oldest object. */
export const OLDEST_FIRST_QUERY = {
  ...PAGE_QUERY,
  order: field(
    v.optional(v.picklist(["asc", "desc"]), "asc"),
    "The order by age: `asc` begins with the oldest object, `desc` with the newest.",
    { examples: ["desc"] },
  ),
};
type PageQuery = v.InferOutput<v.ObjectSchema<typeof PAGE_QUERY, undefined>>;

/**
 * One page of a list, and whether there are more.
 * @param items newest first
 * @throws AppError invalid_request if `after` is no id of the list
 */
export function pageOf<T>(
  items: readonly T[],
  { limit, order, after }: PageQuery,
  idOf: (item: T) => string,
) {
  const ordered = order === "desc" ? items : items.toReversed();
  const start = after ? ordered.findIndex((item) => idOf(item) === after) + 1 : 0;
  if (after && start === 0) {
    const message = "after must be an id of this list";
    throw new AppError("invalid_request", message, { param: "after" });
  }
  return { page: ordered.slice(start, start + limit), has_more: start + limit < ordered.length };
}

/**
 * The reply that holds one page of a list.
 * @param items newest first
 * @throws AppError invalid_request if `after` is no id of the list
 */
export function pageReply<T extends { readonly id: string }>(
  items: readonly T[],
  query: PageQuery,
) {
  const { page, has_more } = pageOf(items, query, ({ id }) => id);
  const first_id = page[0]?.id ?? null;
  const last_id = page.at(-1)?.id ?? null;
  return { object: "list", data: page, first_id, last_id, has_more } as const;
}
