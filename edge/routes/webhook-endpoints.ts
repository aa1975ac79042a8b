/** `/v1/webhook_endpoints`: receivers of the webhooks of all jobs and batches. A job can also name its own `webhook.url`. */
import * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { field } from "../../shared/api/schema.ts";
import {
  EndpointChange,
  EndpointRequest,
  WebhookDelivery,
  WebhookEndpoint,
  WebhookEndpointDeletion,
  WebhookEndpointList,
} from "../../shared/api/webhooks.ts";
import { newId } from "../../shared/ids.ts";
import { requireAllowedUrl } from "../../shared/submission/submission.ts";
import type { Endpoint } from "../../shared/webhooks/endpoint-store.ts";
import { LOCATION } from "../http/reply-headers.ts";
import { OLDEST_FIRST_QUERY, pageReply } from "../http/page.ts";
import { jsonBody, route, type Route } from "../http/route.ts";
import {
  requireDelivery,
  requireEnabled,
  requireEndpoint,
  toDelivery,
} from "../requests/webhook-access.ts";

const DISABLED_BY_OWNER = "disabled by its owner";

const ENDPOINT_ID = field(v.string(), "The id of a webhook endpoint.", {
  examples: ["ep_0198c2f4e5b07a31"],
});

const EXAMPLE = { url: "https://example.com/hook", events: ["job.failed"] };

const ENDPOINT = { description: "The endpoint.", schema: WebhookEndpoint };

export function endpointRoutes(): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/v1/webhook_endpoints",
        operationId: "createWebhookEndpoint",
        tag: "Webhooks",
        summary: "Register a webhook endpoint",
        description: "The endpoint receives a message when any job or batch of the tenant ends.",
        access: { scope: "admin" },
        body: jsonBody(EndpointRequest, EXAMPLE),
        replies: { 201: { ...ENDPOINT, headers: LOCATION } },
      },
      async (c, { body, json }) => {
        requireAllowedUrl(c.var, body.url, "url");
        const { tenant } = c.var.principal;
        const record = {
          id: newId("ep"),
          url: body.url,
          events: body.events ?? null,
          description: body.description ?? "",
          createdAtMs: await c.var.stores.now(),
        };
        const disabledReason = body.enabled === false ? DISABLED_BY_OWNER : null;
        const isCreated = await c.var.stores.endpoints.create(tenant, record, disabledReason);
        if (!isCreated) {
          const message = `A tenant may have at most ${LIMITS.webhookEndpointsMax} webhook endpoints; delete one first`;
          throw new AppError("invalid_request", message);
        }
        c.header("Location", `/v1/webhook_endpoints/${record.id}`);
        return json(201, toWebhookEndpoint(await requireEndpoint(c, record.id)));
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/webhook_endpoints",
        operationId: "listWebhookEndpoints",
        tag: "Webhooks",
        summary: "List the tenant's webhook endpoints",
        description: "The reply says which endpoints are disabled, and why.",
        access: { scope: "jobs:read" },
        query: OLDEST_FIRST_QUERY,
        replies: { 200: { description: "One page of endpoints.", schema: WebhookEndpointList } },
      },
      async (c, { query, json }) => {
        const all = await c.var.stores.endpoints.list(c.var.principal.tenant);
        return json(200, pageReply(all.map(toWebhookEndpoint).toReversed(), query));
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/webhook_endpoints/{id}",
        operationId: "getWebhookEndpoint",
        tag: "Webhooks",
        summary: "Read a webhook endpoint",
        description: "The reply says whether the endpoint is disabled, and why.",
        access: { scope: "jobs:read" },
        params: { id: ENDPOINT_ID },
        replies: { 200: ENDPOINT },
      },
      async (c, { params, json }) =>
        json(200, toWebhookEndpoint(await requireEndpoint(c, params.id))),
    ),
    route(
      {
        method: "PATCH",
        path: "/v1/webhook_endpoints/{id}",
        operationId: "updateWebhookEndpoint",
        tag: "Webhooks",
        summary: "Change a webhook endpoint",
        description: "Fields that the request leaves out do not change.",
        access: { scope: "admin" },
        params: { id: ENDPOINT_ID },
        body: jsonBody(EndpointChange, { enabled: true }),
        replies: { 200: ENDPOINT },
      },
      async (c, { params, body: change, json }) => {
        if (change.url !== undefined) requireAllowedUrl(c.var, change.url, "url");
        const record = await requireEndpoint(c, params.id);
        const { tenant } = c.var.principal;
        const { endpoints } = c.var.stores;
        await endpoints.update(tenant, {
          ...record,
          url: change.url ?? record.url,
          events: change.events === undefined ? record.events : change.events,
          description: change.description ?? record.description,
        });
        if (change.enabled === true) await endpoints.enable(tenant, record.id);
        if (change.enabled === false) {
          await endpoints.disable(tenant, record.id, DISABLED_BY_OWNER);
        }
        return json(200, toWebhookEndpoint(await requireEndpoint(c, record.id)));
      },
    ),
    route(
      {
        method: "DELETE",
        path: "/v1/webhook_endpoints/{id}",
        operationId: "deleteWebhookEndpoint",
        tag: "Webhooks",
        summary: "Delete a webhook endpoint",
        description: "Pending deliveries to it are not sent.",
        access: { scope: "admin" },
        params: { id: ENDPOINT_ID },
        replies: {
          200: { description: "The endpoint is deleted.", schema: WebhookEndpointDeletion },
        },
      },
      async (c, { params, json }) => {
        const { id } = await requireEndpoint(c, params.id);
        await c.var.stores.endpoints.delete(c.var.principal.tenant, id);
        return json(200, { id, object: "webhook_endpoint", deleted: true });
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/webhook_endpoints/{id}/test",
        operationId: "testWebhookEndpoint",
        tag: "Webhooks",
        summary: "Send a test message to a webhook endpoint",
        description: "The message has the type `webhook.test`.",
        access: { scope: "admin" },
        params: { id: ENDPOINT_ID },
        replies: {
          202: {
            description: "The pending delivery.",
            schema: WebhookDelivery,
            headers: LOCATION,
          },
        },
        errors: ["endpoint_disabled"],
      },
      async (c, { params, json }) => {
        const endpoint = await requireEndpoint(c, params.id);
        requireEnabled(endpoint);
        const { tenant } = c.var.principal;
        const id = await c.var.stores.publisher.sendTest(tenant, endpoint);
        c.header("Location", `/v1/webhook_deliveries/${id}`);
        return json(202, await toDelivery(c, await requireDelivery(c, id)));
      },
    ),
  ];
}

function toWebhookEndpoint(endpoint: Endpoint): WebhookEndpoint {
  const { id, url, events, description, disabled, failingSinceMs, createdAtMs } = endpoint;
  return {
    id,
    object: "webhook_endpoint",
    url,
    events,
    description,
    enabled: disabled === null,
    disabled: disabled && { reason: disabled.reason, at: disabled.atMs / 1000 },
    failing_since: failingSinceMs === null ? null : failingSinceMs / 1000,
    created_at: createdAtMs / 1000,
  };
}
