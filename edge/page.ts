/** Lists as OpenAI's clients page through them: `limit`, `order`, and `after`, the last id of the page before. */
import * as v from "valibot";
import type { AppContext } from "./context.ts";
import { parseRequest } from "./validate.ts";

const PAGE_DEFAULT = 20;
const PAGE_MAX = 100;

const Query = v.object({
  limit: v.optional(
    v.pipe(
      v.string(),
      v.regex(/^\d{1,3}$/, "Expected a number"),
      v.transform(Number),
      v.minValue(1),
      v.maxValue(PAGE_MAX),
    ),
    String(PAGE_DEFAULT),
  ),
  order: v.optional(v.picklist(["asc", "desc"]), "desc"),
  after: v.optional(v.string()),
});

/**
 * @param items oldest first
 * @throws AppError invalid_request
 */
export function page(c: AppContext, items: readonly { readonly id: string }[]): object {
  const { limit, order, after } = parseRequest(Query, c.req.query());
  const ordered = order === "asc" ? items : items.toReversed();
  const start = after === undefined ? 0 : ordered.findIndex(({ id }) => id === after) + 1;
  const data = ordered.slice(start, start + limit);
  return {
    object: "list",
    data,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
    has_more: start + limit < ordered.length,
  };
}
