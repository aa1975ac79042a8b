/** The envelopes of replies that hold several objects, and of replies to a deletion. */
import * as v from "valibot";
import { field } from "./schema.ts";

/** All objects of a kind. */
// @__NO_SIDE_EFFECTS__
export function listSchema<const Item extends v.GenericSchema>(item: Item) {
  return v.strictObject({
    object: field(v.literal("list"), "The type of this object: `list`."),
    data: field(v.array(item), "The objects."),
  });
}

/** One page of the objects of a kind. */
// @__NO_SIDE_EFFECTS__
export function pageSchema<const Item extends v.GenericSchema>(item: Item) {
  return v.strictObject({
    ...listSchema(item).entries,
    first_id: field(
      v.nullable(v.string()),
      "The id of the page's first object. Null if the page is empty.",
    ),
    last_id: field(
      v.nullable(v.string()),
      "The id of the page's last object: the next page starts `after` it. Null if the page is empty.",
    ),
    has_more: field(v.boolean(), "Whether there are more objects after this page."),
  });
}

/** The reply to a deletion. */
// @__NO_SIDE_EFFECTS__
export function deletionSchema<const Kind extends string>(kind: Kind) {
  return v.strictObject({
    id: field(v.string(), "The id of the deleted object."),
    object: field(v.literal(kind), `The type of the deletion: \`${kind}\`.`),
    deleted: field(v.literal(true), "Always true."),
  });
}
