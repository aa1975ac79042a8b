/** The log of webhook deliveries: what was sent where, what the receiver said, and sending it again. */
import { Hono } from "hono";
import { AppError } from "../../shared/errors.ts";
import { LIMITS } from "../../shared/limits.ts";
import { messageIdOf, partsOf } from "../../shared/webhook.ts";
import type { AppContext, AppEnv } from "../context.ts";
import { requireDelivery, requireEnabled, requireEndpoint, toDelivery } from "../webhooks.ts";

const PAGE = 20;

export function deliveryRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get("/", async (c) => {
    const limit = readLimit(c);
    const { endpoint, job, after } = c.req.query();
    const { tenant } = c.var.principal;
    const all = await c.var.backend.webhooks(({ deliveries }) => deliveries.ids(tenant));
    const wanted = all.filter((id) => {
      const of = partsOf(id);
      return (
        (!endpoint || of.endpointId === endpoint) && (!job || of.messageId === messageIdOf(job))
      );
    });
    const start = after ? wanted.indexOf(after) + 1 : 0;
    if (after && start === 0) {
      const message = "after must be the id of a delivery in this list";
      throw new AppError("invalid_request", message, { param: "after" });
    }
    const page = wanted.slice(start, start + limit);
    const records = await c.var.backend.webhooks(({ deliveries }) =>
      Promise.all(page.map((id) => deliveries.one(tenant, id))),
    );
    const data = await Promise.all(
      records.filter((record) => record !== null).map((record) => toDelivery(c, record)),
    );
    return c.json({ object: "list", data, has_more: start + limit < wanted.length });
  });

  routes.get("/:id", async (c) =>
    c.json(await toDelivery(c, await requireDelivery(c, c.req.param("id")))),
  );

  // What is still being tried is sent at once, and its schedule begins again.
  routes.post("/:id/replay", async (c) => {
    const { tenant } = c.var.principal;
    const { id, endpointId } = await requireDelivery(c, c.req.param("id"));
    if (endpointId !== "") requireEnabled(await requireEndpoint(c, endpointId));
    await c.var.backend.webhooks(({ announcer }) => announcer.replay(tenant, id));
    return c.json(await toDelivery(c, await requireDelivery(c, id)), 202);
  });

  return routes;
}

function readLimit(c: AppContext): number {
  const limit = c.req.query("limit") ?? String(PAGE);
  if (/^\d{1,3}$/.test(limit) && Number(limit) >= 1 && Number(limit) <= LIMITS.pageMax) {
    return Number(limit);
  }
  const message = `limit must be a whole number from 1 to ${LIMITS.pageMax}`;
  throw new AppError("invalid_request", message, { param: "limit" });
}
