/** Webhooks: endpoints, deliveries, the inbox and the keys that sign. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { deletionSchema, listSchema, pageSchema } from "./lists.ts";
import { requestObject } from "./request-object.ts";
import { EXAMPLE_TIME, field, integer, number, optional, text, type Reply } from "./schema.ts";

export const WebhookUrl = v.pipe(
  v.string(),
  v.maxLength(LIMITS.webhookUrlCharsMax),
  v.url(),
  v.regex(/^https?:\/\//, "Expected an http or https URL"),
  v.description(
    "An http or https URL. Its host must be a public address, on port 80, 443, or 1024 and above.",
  ),
);

/** Events of jobs that have not ended: only receivers that name them get them. */
const EVENTS_BEFORE_END = ["job.started", "job.progress"] as const;
/** Events about one job. */
const JOB_EVENTS = [
  ...EVENTS_BEFORE_END,
  "job.succeeded",
  "job.failed",
  "job.cancelled",
  "job.expired",
  "response.completed",
  "response.incomplete",
  "response.failed",
  "response.cancelled",
] as const;
export const WEBHOOK_EVENTS = [
  ...JOB_EVENTS,
  "batch.completed",
  "batch.failed",
  "batch.expired",
  "batch.cancelled",
] as const;
export const WebhookEvent = v.pipe(
  v.picklist(WEBHOOK_EVENTS),
  v.description(
    "An event that endpoints can subscribe to: a job, a response or a batch ended in this state, or a job was started or has more tokens. The end of a response is also that of its job, so both are sent.",
  ),
);
export type WebhookEvent = (typeof WEBHOOK_EVENTS)[number];

export const isEventBeforeEnd = (event: WebhookEvent) =>
  (EVENTS_BEFORE_END as readonly WebhookEvent[]).includes(event);

const BEFORE_END_NOTE = `\`job.started\` and \`job.progress\` are sent only if they are named. A job has progress messages at equal steps, at most ${LIMITS.progressMessagesMax} in all and one a second; a tenant has at most ${LIMITS.progressMessagesPerMinuteMax} a minute, and further ones are left out.`;

/** The `webhook` of a request. */
export const webhookFields = {
  url: field(WebhookUrl, "The URL that receives signed messages about the job.", {
    examples: ["https://example.com/hook"],
  }),
  events: optional(
    v.pipe(v.array(v.picklist(JOB_EVENTS)), v.minLength(1), v.maxLength(JOB_EVENTS.length)),
    `The events that are sent. The default, null, sends the job's end. ${BEFORE_END_NOTE}`,
    { examples: [["job.started", "job.succeeded", "job.failed"]] },
  ),
};

const endpointFields = {
  url: field(WebhookUrl, "The URL that messages are sent to.", {
    examples: ["https://example.com/hook"],
  }),
  events: optional(
    v.pipe(v.array(WebhookEvent), v.minLength(1), v.maxLength(WEBHOOK_EVENTS.length)),
    `The events that are sent. The default, null, sends every end. ${BEFORE_END_NOTE}`,
    { examples: [["job.failed"]] },
  ),
  description: optional(
    text(LIMITS.webhookDescriptionCharsMax),
    "What the endpoint is for, up to 256 characters.",
    { default: "" },
  ),
  enabled: optional(
    v.boolean(),
    "Whether messages are sent. In a change, true enables a disabled endpoint.",
    {
      default: true,
    },
  ),
};

/** `POST /v1/webhook_endpoints` */
export const EndpointRequest = requestObject(endpointFields);
/** `PATCH /v1/webhook_endpoints/{id}`: absent fields stay unchanged. */
export const EndpointChange = v.partial(v.strictObject(endpointFields));

/** `POST /v1/webhook_keys/rotate` */
export const WebhookKeyRotationRequest = requestObject({
  overlap_seconds: optional(
    number(0, LIMITS.signingOverlapSecondsMax),
    "Seconds for which the key before it also signs: up to 7 days. With 0 it stops signing at once.",
    { default: 86_400 },
  ),
});

export const WebhookEndpoint = v.strictObject({
  id: field(v.string(), "The endpoint's id."),
  object: field(v.literal("webhook_endpoint"), "The type of this object: `webhook_endpoint`."),
  url: field(v.string(), "The URL that messages are sent to.", {
    examples: ["https://example.com/hook"],
  }),
  events: field(
    v.nullable(v.array(WebhookEvent)),
    "The events that are sent. Null means every end.",
  ),
  description: field(v.string(), "What the endpoint is for."),
  enabled: field(v.boolean(), "Whether messages are sent.", { examples: [true] }),
  disabled: field(
    v.nullable(
      v.strictObject({
        reason: field(v.string(), "The reason in words, for people."),
        at: field(v.number(), "When the endpoint was disabled, as a Unix time in seconds.", {
          examples: [EXAMPLE_TIME],
        }),
      }),
    ),
    "Why and when the endpoint was disabled: its owner disabled it, it replied 410, or all attempts failed for 72 hours. Null while it is enabled.",
    { examples: [null] },
  ),
  failing_since: field(
    v.nullable(v.number()),
    "Since when every attempt has failed, as a Unix time in seconds. Null if the last one succeeded, or none was made.",
    { examples: [null] },
  ),
  created_at: field(v.number(), "When the endpoint was registered, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME],
  }),
});
export type WebhookEndpoint = Reply<typeof WebhookEndpoint>;

export const WebhookEndpointDeletion = deletionSchema("webhook_endpoint");

/** `GET /v1/webhook_endpoints` */
export const WebhookEndpointList = pageSchema(WebhookEndpoint);

/** One attempt to deliver a webhook. */
export const DeliveryAttempt = v.strictObject({
  attempt: field(integer(1, Number.MAX_SAFE_INTEGER), "The number of the attempt, from 1."),
  at: field(v.number(), "When the attempt began, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME + 1.25],
  }),
  status: field(
    v.nullable(v.number()),
    "The HTTP status of the receiver. Null if it did not answer.",
    { examples: [200] },
  ),
  error: field(v.nullable(v.string()), "Why the receiver did not answer. Null if it did.", {
    examples: [null],
  }),
  duration_ms: field(v.number(), "How long the attempt took, in milliseconds."),
});
export type DeliveryAttempt = Reply<typeof DeliveryAttempt>;

export const DeliveryState = v.pipe(
  v.picklist(["pending", "delivered", "failed"]),
  v.description(
    "`pending` until the receiver answers with a 2xx status (`delivered`) or the last attempt fails (`failed`).",
  ),
);
export type DeliveryState = v.InferOutput<typeof DeliveryState>;

/** The delivery of one message to one receiver. */
export const WebhookDelivery = v.strictObject({
  id: field(v.string(), "The delivery's id."),
  object: field(v.literal("webhook_delivery"), "The type of this object: `webhook_delivery`."),
  message_id: field(v.string(), "The id of the message: the header `webhook-id` of every attempt."),
  type: field(v.string(), "The type of the message.", { examples: ["job.succeeded"] }),
  endpoint: field(
    v.nullable(v.string()),
    "The id of the endpoint. Null for the `webhook.url` of a job.",
  ),
  job: field(
    v.nullable(v.string()),
    "The id of the job that the message is about. Null for a batch or a test.",
  ),
  url: field(v.string(), "The URL that the message is sent to."),
  state: field(DeliveryState, "The delivery's state.", { examples: ["delivered"] }),
  created_at: field(v.number(), "When the delivery was created, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME + 1],
  }),
  next_attempt_at: field(
    v.nullable(v.number()),
    "When the next attempt is due, as a Unix time in seconds. Null unless the delivery is pending.",
    { examples: [null] },
  ),
  attempts: field(v.array(DeliveryAttempt), "The latest 50 attempts, the oldest first."),
});
export type WebhookDelivery = Reply<typeof WebhookDelivery>;

/** `GET /v1/webhook_deliveries` */
export const WebhookDeliveryPage = v.strictObject({
  ...listSchema(WebhookDelivery).entries,
  has_more: field(v.boolean(), "Whether there are more deliveries after this page."),
});

const webhookKey = {
  id: field(v.string(), "The key's id."),
  object: field(v.literal("webhook_key"), "The type of this object: `webhook_key`."),
  public_key: field(
    v.string(),
    "The public Ed25519 key (signatures `v1a`), in the notation of Standard Webhooks.",
    { examples: ["whpk_…"] },
  ),
  created_at: field(v.number(), "When the key was created, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME],
  }),
  expires_at: field(
    v.nullable(v.number()),
    "When the key stops signing, as a Unix time in seconds. Null unless a newer key replaced it.",
    { examples: [null] },
  ),
};

/** A key that signs the tenant's webhooks. */
export const WebhookKey = v.strictObject(webhookKey);
export type WebhookKey = Reply<typeof WebhookKey>;

/** A new signing key with its secret. */
export const NewWebhookKey = v.strictObject({
  ...webhookKey,
  secret: field(
    v.string(),
    "The secret (signatures `v1`), in the notation of Standard Webhooks, which only this reply shows.",
    { examples: ["whsec_…"] },
  ),
});
export type NewWebhookKey = Reply<typeof NewWebhookKey>;

/** `GET /v1/webhook_keys` */
export const WebhookKeyList = v.strictObject({
  ...listSchema(WebhookKey).entries,
  jwks_url: field(
    v.string(),
    "The URL of the tenant's public keys as a JSON Web Key Set. It needs no API key.",
    { examples: ["https://api.example.com/.well-known/jwks.json?tenant=acme"] },
  ),
});

/** `GET /.well-known/jwks.json`: a tenant's public keys (RFC 7517, RFC 8037). */
export const JsonWebKeySet = v.strictObject({
  keys: field(
    v.array(
      v.strictObject({
        kty: field(v.literal("OKP"), "The key's type: `OKP`."),
        crv: field(v.literal("Ed25519"), "The key's curve: `Ed25519`."),
        x: field(v.string(), "The public key, as base64url."),
        kid: field(v.string(), "The key's id."),
        alg: field(v.literal("EdDSA"), "The signature algorithm: `EdDSA`."),
        use: field(v.literal("sig"), "What the key is for: `sig`, signatures."),
      }),
    ),
    "The keys that sign now, the newest first.",
  ),
});
