/** The log of webhook deliveries: what was sent where, what the receiver said, and sending it again. */
import { Hono } from "hono";
import { messageIdOf, partsOf } from "../../shared/webhook.ts";
import type { AppEnv } from "../context.ts";
import { pageOf } from "../page.ts";
import { requireDelivery, requireEnabled, requireEndpoint, toDelivery } from "../webhooks.ts";

export function deliveryRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get("/", async (c) => {
    const { endpoint, job } = c.req.query();
    const { tenant } = c.var.principal;
    const all = await c.var.backend.webhooks(({ deliveries }) => deliveries.ids(tenant));
    const wanted = all.filter((id) => {
      const of = partsOf(id);
      return (
        (!endpoint || of.endpointId === endpoint) && (!job || of.messageId === messageIdOf(job))
      );
    });
    const { page, has_more } = pageOf(c, wanted, (id) => id);
    const records = await c.var.backend.webhooks(({ deliveries }) =>
      Promise.all(page.map((id) => deliveries.one(tenant, id))),
    );
    const data = await Promise.all(
      records.filter((record) => record !== null).map((record) => toDelivery(c, record)),
    );
    return c.json({ object: "list", data, has_more });
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
