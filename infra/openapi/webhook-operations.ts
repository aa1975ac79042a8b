/** The calls about webhooks. */
import { deleted, HAS_MORE, list, type Operation, type Reply } from "./operation.ts";

const endpoint = (description: string, ...headers: string[]): Reply => ({
  description,
  schema: "WebhookEndpoint",
  headers,
});
const delivery = (description: string, ...headers: string[]): Reply => ({
  description,
  schema: "WebhookDelivery",
  headers,
});
const TAG = { tag: "Webhooks" } as const;
const ONE_ENDPOINT = { ...TAG, parameters: ["EndpointId"] } as const;
const ONE_DELIVERY = { ...TAG, parameters: ["DeliveryId"] } as const;
const RECEIVER = { url: "https://example.com/hook" };

export const WEBHOOK_OPERATIONS: Readonly<Record<string, Operation>> = {
  "POST /v1/webhook_endpoints": {
    ...TAG,
    summary: "Register an endpoint for every ended job of the tenant",
    body: { EndpointRequest: { ...RECEIVER, events: ["job.failed"] } },
    replies: { 201: endpoint("The endpoint.", "Location") },
  },
  "GET /v1/webhook_endpoints": {
    ...TAG,
    summary: "List the tenant's endpoints",
    replies: { 200: { description: "All.", schema: list("WebhookEndpoint") } },
  },
  "GET /v1/webhook_endpoints/{id}": {
    ...ONE_ENDPOINT,
    summary: "Read an endpoint",
    replies: { 200: endpoint("The endpoint.") },
  },
  "PATCH /v1/webhook_endpoints/{id}": {
    ...ONE_ENDPOINT,
    summary: "Change an endpoint",
    description: "What is absent stays as it is.",
    body: { EndpointChange: { enabled: true } },
    replies: { 200: endpoint("The endpoint.") },
  },
  "DELETE /v1/webhook_endpoints/{id}": {
    ...ONE_ENDPOINT,
    summary: "Delete an endpoint",
    replies: { 200: deleted("webhook_endpoint") },
  },
  "POST /v1/webhook_endpoints/{id}/test": {
    ...ONE_ENDPOINT,
    summary: "Send an endpoint a test",
    replies: { 202: delivery("The delivery on its way.", "Location") },
    errors: [409],
  },
  "GET /v1/webhook_deliveries": {
    ...TAG,
    summary: "List deliveries, the newest first",
    parameters: ["OfEndpoint", "OfJob", "Limit", "Order", "AfterId"],
    replies: { 200: { description: "A page.", schema: list("WebhookDelivery", HAS_MORE) } },
  },
  "GET /v1/webhook_deliveries/{id}": {
    ...ONE_DELIVERY,
    summary: "Read a delivery with its attempts",
    replies: { 200: delivery("The delivery.") },
  },
  "POST /v1/webhook_deliveries/{id}/replay": {
    ...ONE_DELIVERY,
    summary: "Send a delivery again, now",
    replies: { 202: delivery("The delivery on its way.") },
    errors: [409],
  },
  "GET /v1/webhook_inbox": {
    ...TAG,
    summary: "Receive all of the tenant's webhooks over SSE",
    description:
      "From now on, or after the message that the reader has; signed when they are sent.",
    parameters: ["LastEventId", "After", "StartingAfter"],
    replies: { 200: { description: "They, as they come.", stream: "InboxMessage" } },
  },
  "GET /v1/webhook_keys": {
    ...TAG,
    summary: "The keys that sign the tenant's webhooks",
    replies: {
      200: {
        description: "Those that sign now, the newest first.",
        schema: list("WebhookKey", { jwks_url: { type: "string", format: "uri" } }),
      },
    },
  },
  "POST /v1/webhook_keys/rotate": {
    ...TAG,
    summary: "Sign with a new key",
    body: { RotationRequest: { overlap_seconds: 3600 } },
    replies: { 201: { description: "The key, told only now.", schema: "NewWebhookKey" } },
  },
  "GET /.well-known/jwks.json": {
    ...TAG,
    summary: "A tenant's public keys as a JSON Web Key Set",
    isPublic: true,
    parameters: ["Tenant"],
    replies: {
      200: {
        description: "The keys.",
        mediaType: "application/jwk-set+json",
        schema: {
          type: "object",
          properties: { keys: { type: "array", items: { type: "object" } } },
          required: ["keys"],
        },
      },
    },
    errors: [503],
  },
};
