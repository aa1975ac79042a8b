/** The webhook inbox: a tenant's webhooks as a stream of events. */
import * as v from "valibot";
import { count, EXAMPLE_TIME, field } from "./schema.ts";
import { WebhookBody } from "./webhook-bodies.ts";

/** As Standard Webhooks defines them. */
const webhookHeaders = v.strictObject({
  "content-type": field(v.literal("application/json"), "The media type of the body."),
  "webhook-id": field(
    v.string(),
    "The id of the message, the same in every attempt, so that receivers can ignore repetitions.",
    { examples: ["msg_0198c2f4e5b07a31"] },
  ),
  "webhook-timestamp": field(
    v.string(),
    "When the webhook was signed, as a Unix time in seconds. Receivers refuse signatures that are more than five minutes old.",
    { examples: [String(EXAMPLE_TIME + 1)] },
  ),
  "webhook-signature": field(
    v.string(),
    "Two signatures by each key that signs now, separated by spaces: `v1` (HMAC-SHA256 with the secret) and `v1a` (Ed25519).",
    { examples: ["v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4="] },
  ),
});

/** A webhook in the inbox. A POST with these headers and this body is what a receiver would get. */
export const InboxMessage = v.strictObject({
  headers: field(webhookHeaders, "The headers of the webhook, signed at this moment."),
  body: v.pipe(
    v.string(),
    v.description("The body of the webhook: a `WebhookBody` as JSON."),
    v.metadata({ contentMediaType: "application/json", contentSchema: WebhookBody }),
  ),
});

/** The data of the inbox's events: `{}` for `ready`, a count for `missed`, a message for all others. */
export const InboxEvent = v.union([
  InboxMessage,
  v.strictObject({
    count: field(
      count,
      "The number of messages that were deleted before the reader received them.",
    ),
  }),
  v.strictObject({}),
]);
