/** The public wire contract of webhooks: endpoints, deliveries, signing keys. Times are Unix seconds. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";

export const WebhookUrl = v.pipe(
  v.string(),
  v.maxLength(LIMITS.webhookUrlCharsMax),
  v.url(),
  v.regex(/^https?:\/\//, "Expected an http or https URL"),
);

/** What an endpoint can ask to be told. */
export const WEBHOOK_EVENTS = [
  "job.succeeded",
  "job.failed",
  "job.cancelled",
  "job.expired",
  "batch.completed",
  "batch.failed",
  "batch.expired",
  "batch.cancelled",
] as const;
export type WebhookEvent = (typeof WEBHOOK_EVENTS)[number];

const endpoint = {
  url: WebhookUrl,
  /** Null, as without it: every event. */
  events: v.nullish(
    v.pipe(v.array(v.picklist(WEBHOOK_EVENTS)), v.minLength(1), v.maxLength(WEBHOOK_EVENTS.length)),
  ),
  description: v.nullish(v.pipe(v.string(), v.maxLength(LIMITS.webhookDescriptionCharsMax))),
  enabled: v.nullish(v.boolean()),
};

/** `POST /v1/webhook_endpoints` */
export const EndpointRequest = v.strictObject(endpoint);
/** `PATCH /v1/webhook_endpoints/{id}`: what is absent stays as it is. */
export const EndpointChange = v.partial(v.strictObject(endpoint));

/** `POST /v1/webhook_keys/rotate` */
export const RotationRequest = v.strictObject({
  /** For which the keys before go on signing too; 0 ends them at once. */
  overlap_seconds: v.nullish(
    v.pipe(v.number(), v.minValue(0), v.maxValue(LIMITS.signingOverlapSecondsMax)),
  ),
});

export interface WebhookEndpoint {
  readonly id: string;
  readonly object: "webhook_endpoint";
  readonly url: string;
  readonly events: readonly WebhookEvent[] | null;
  readonly description: string;
  readonly enabled: boolean;
  /** Why nothing is sent to it; null while it is enabled. */
  readonly disabled: { readonly reason: string; readonly at: number } | null;
  readonly created_at: number;
}

/** One attempt to deliver a webhook. */
export interface DeliveryAttempt {
  /** Counted from 1. */
  readonly attempt: number;
  readonly at: number;
  /** HTTP status of the receiver, or null if it did not answer. */
  readonly status: number | null;
  /** Why it did not answer, or null. */
  readonly error: string | null;
  readonly duration_ms: number;
}

export type DeliveryState = "pending" | "delivered" | "failed";

/** A message on its way to one receiver. */
export interface WebhookDelivery {
  readonly id: string;
  readonly object: "webhook_delivery";
  /** The `webhook-id` header of every attempt. */
  readonly message_id: string;
  readonly type: string;
  /** Null for the URL that a job named itself. */
  readonly endpoint: string | null;
  readonly job: string | null;
  readonly url: string;
  readonly state: DeliveryState;
  readonly created_at: number;
  /** Null unless it is pending. */
  readonly next_attempt_at: number | null;
  /** The latest, oldest first. */
  readonly attempts: readonly DeliveryAttempt[];
}

export interface WebhookKey {
  readonly id: string;
  readonly object: "webhook_key";
  /** Ed25519, as Standard Webhooks writes it (`whpk_…`). */
  readonly public_key: string;
  readonly created_at: number;
  /** When it stops signing, if it has been replaced. */
  readonly expires_at: number | null;
}

/** A signing key as its maker gets it, once. */
export interface NewWebhookKey extends WebhookKey {
  /** As Standard Webhooks writes it (`whsec_…`). */
  readonly secret: string;
}

/** A webhook in the inbox: forwarding both gives what a receiver would have got. */
export interface InboxMessage {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}
