/** `/v1/webhook_deliveries`: the attempts to deliver webhooks, the receivers' replies, and sending a webhook again. */
import * as v from "valibot";
import { field } from "../../shared/api/schema.ts";
import { WebhookDelivery, WebhookDeliveryPage } from "../../shared/api/webhooks.ts";
import { deliveryIdParts, isAboutJob } from "../../shared/webhooks/message.ts";
import { PAGE_QUERY, pageOf } from "../http/page.ts";
import { route, type Route } from "../http/route.ts";
import {
  requireDelivery,
  requireEnabled,
  requireEndpoint,
  toDelivery,
} from "../requests/webhook-access.ts";

const DELIVERY_ID = field(v.string(), "The id of a webhook delivery.", {
  examples: ["msg_0198c2f4e5b07a31-job"],
});

const FILTER = {
  endpoint: field(v.optional(v.string()), "Lists only deliveries to the endpoint with this id.", {
    examples: ["ep_0198c2f4e5b07a31"],
  }),
  job: field(v.optional(v.string()), "Lists only deliveries about the job with this id.", {
    examples: ["job_0198c2f4e5b07a31"],
  }),
};

export function deliveryRoutes(): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/webhook_deliveries",
        operationId: "listWebhookDeliveries",
        tag: "Webhooks",
        summary: "List webhook deliveries",
        description: "Deliveries are kept for a week.",
        access: { scope: "jobs:read" },
        query: { ...FILTER, ...PAGE_QUERY },
        replies: { 200: { description: "One page of deliveries.", schema: WebhookDeliveryPage } },
      },
      async (c, { query, json }) => {
        const { endpoint, job } = query;
        const { tenant } = c.var.principal;
        const { deliveries } = c.var.stores;
        const listed = (await deliveries.ids(tenant)).filter((id) => {
          const parts = deliveryIdParts(id);
          const isOfEndpoint = !endpoint || parts.endpointId === endpoint;
          return isOfEndpoint && (!job || isAboutJob(parts.messageId, job));
        });
        const { page, has_more } = pageOf(listed, query, (id) => id);
        const records = await Promise.all(page.map((id) => deliveries.get(tenant, id)));
        const data = await Promise.all(
          records.filter((record) => record !== null).map((record) => toDelivery(c, record)),
        );
        return json(200, { object: "list", data, has_more });
      },
    ),
    route(
      {
        method: "GET",
        path: "/v1/webhook_deliveries/{id}",
        operationId: "getWebhookDelivery",
        tag: "Webhooks",
        summary: "Read a webhook delivery with its attempts",
        description:
          "The reply contains what the receiver replied, and when the next attempt is due.",
        access: { scope: "jobs:read" },
        params: { id: DELIVERY_ID },
        replies: { 200: { description: "The delivery.", schema: WebhookDelivery } },
      },
      async (c, { params, json }) =>
        json(200, await toDelivery(c, await requireDelivery(c, params.id))),
    ),
    route(
      {
        method: "POST",
        path: "/v1/webhook_deliveries/{id}/replay",
        operationId: "replayWebhookDelivery",
        tag: "Webhooks",
        summary: "Send a webhook again, now",
        description: "If the delivery is pending, its schedule of attempts begins again.",
        access: { scope: "jobs:write" },
        params: { id: DELIVERY_ID },
        replies: { 202: { description: "The pending delivery.", schema: WebhookDelivery } },
        errors: ["endpoint_disabled"],
      },
      async (c, { params, json }) => {
        const { tenant } = c.var.principal;
        const { id, endpointId } = await requireDelivery(c, params.id);
        if (endpointId !== "") requireEnabled(await requireEndpoint(c, endpointId));
        await c.var.stores.publisher.replay(tenant, id);
        return json(202, await toDelivery(c, await requireDelivery(c, id)));
      },
    ),
  ];
}
