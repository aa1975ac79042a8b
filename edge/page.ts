/** Lists as OpenAI's clients page through them: `limit`, `order`, and `after`, the last id of the page before. */
import * as v from "valibot";
import { AppError } from "../shared/errors.ts";
import { LIMITS } from "../shared/limits.ts";
import type { AppContext } from "./context.ts";
import { parseRequest } from "../shared/validate.ts";

const PAGE_DEFAULT = "20";

const Query = v.object({
  limit: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^\d{1,3}$/, "Expected a number"),
      v.transform(Number),
      v.minValue(1),
      v.maxValue(LIMITS.pageMax),
    ),
    PAGE_DEFAULT,
  ),
  order: v.optional(v.picklist(["asc", "desc"]), "desc"),
  after: v.optional(v.string()),
});

/**
 * The page that the query asks for, and whether there are more.
 * @param items newest first
 * @throws AppError invalid_request
 */
export function pageOf<T>(c: AppContext, items: readonly T[], idOf: (item: T) => string) {
  const { limit, order, after } = parseRequest(Query, c.req.query());
  const ordered = order === "desc" ? items : items.toReversed();
  const start = after ? ordered.findIndex((item) => idOf(item) === after) + 1 : 0;
  if (after && start === 0) {
    const message = "after must be an id of this list";
    throw new AppError("invalid_request", message, { param: "after" });
  }
  return { page: ordered.slice(start, start + limit), has_more: start + limit < ordered.length };
}
