/** Webhook endpoints as a resource: receivers of every ended job, beside the URL that a job may name itself. */
import { Hono } from "hono";
import { newId } from "../../shared/api-key.ts";
import type { Endpoint } from "../../shared/endpoint-store.ts";
import { AppError } from "../../shared/errors.ts";
import { LIMITS } from "../../shared/limits.ts";
import {
  EndpointChange,
  EndpointRequest,
  type WebhookEndpoint,
} from "../../shared/webhook-contract.ts";
import { readJson } from "../body.ts";
import type { AppEnv } from "../context.ts";
import { requireReachable } from "../../shared/submission.ts";
import { parseRequest } from "../../shared/validate.ts";
import { requireDelivery, requireEnabled, requireEndpoint, toDelivery } from "../webhooks.ts";

const BY_OWNER = "switched off by its owner";

export function endpointRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const request = parseRequest(EndpointRequest, await readJson(c.req.raw));
    requireReachable(c.var, request.url, "url");
    const { tenant } = c.var.principal;
    const record = {
      id: newId("ep"),
      url: request.url,
      events: request.events ?? null,
      description: request.description ?? "",
      createdAtMs: Date.now(),
    };
    const disabledFor = request.enabled === false ? BY_OWNER : null;
    const isCreated = await c.var.backend.webhooks(({ endpoints }) =>
      endpoints.create(tenant, record, disabledFor),
    );
    if (!isCreated) {
      const { webhookEndpointsMax } = LIMITS;
      throw new AppError(
        "invalid_request",
        `A tenant has at most ${webhookEndpointsMax} endpoints`,
      );
    }
    c.header("Location", `/v1/webhook_endpoints/${record.id}`);
    return c.json(toWire(await requireEndpoint(c, record.id)), 201);
  });

  routes.get("/", async (c) => {
    const { tenant } = c.var.principal;
    const all = await c.var.backend.webhooks(({ endpoints }) => endpoints.all(tenant));
    return c.json({ object: "list", data: all.map(toWire) });
  });

  routes.get("/:id", async (c) => c.json(toWire(await requireEndpoint(c, c.req.param("id")))));

  routes.patch("/:id", async (c) => {
    const change = parseRequest(EndpointChange, await readJson(c.req.raw));
    if (change.url !== undefined) requireReachable(c.var, change.url, "url");
    const { disabled: _, ...record } = await requireEndpoint(c, c.req.param("id"));
    const { tenant } = c.var.principal;
    await c.var.backend.webhooks(async ({ endpoints }) => {
      await endpoints.update(tenant, {
        ...record,
        url: change.url ?? record.url,
        events: change.events === undefined ? record.events : change.events,
        description: change.description ?? record.description,
      });
      if (change.enabled === true) await endpoints.enable(tenant, record.id);
      if (change.enabled === false) await endpoints.disable(tenant, record.id, BY_OWNER);
    });
    return c.json(toWire(await requireEndpoint(c, record.id)));
  });

  routes.delete("/:id", async (c) => {
    const { id } = await requireEndpoint(c, c.req.param("id"));
    const { tenant } = c.var.principal;
    await c.var.backend.webhooks(({ endpoints }) => endpoints.delete(tenant, id));
    return c.json({ id, object: "webhook_endpoint", deleted: true });
  });

  routes.post("/:id/test", async (c) => {
    const endpoint = await requireEndpoint(c, c.req.param("id"));
    requireEnabled(endpoint);
    const { tenant } = c.var.principal;
    const id = await c.var.backend.webhooks(({ announcer }) => announcer.test(tenant, endpoint));
    c.header("Location", `/v1/webhook_deliveries/${id}`);
    return c.json(await toDelivery(c, await requireDelivery(c, id)), 202);
  });

  return routes;
}

function toWire({
  id,
  url,
  events,
  description,
  disabled,
  createdAtMs,
}: Endpoint): WebhookEndpoint {
  return {
    id,
    object: "webhook_endpoint",
    url,
    events,
    description,
    enabled: disabled === null,
    disabled: disabled && { reason: disabled.reason, at: disabled.atMs / 1000 },
    created_at: createdAtMs / 1000,
  };
}
