/** `POST /v1/jobs/{id}/tickets`: what a backend gives to a browser, whose EventSource can send no key. */
import { Hono } from "hono";
import { newTicket, sha256Hex } from "../../shared/api-key.ts";
import { TicketRequest, type Ticket } from "../../shared/ticket.ts";
import { readJson } from "../body.ts";
import type { AppEnv } from "../context.ts";
import { requireJob } from "../job-access.ts";
import { requireScope } from "../middleware/authorize.ts";
import { parseRequest } from "../../shared/validate.ts";

export function ticketRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/:id/tickets", async (c) => {
    const { action, expires_in } = parseRequest(TicketRequest, await readJson(c.req.raw));
    requireScope(c, action === "stream" ? "jobs:read" : "jobs:write");
    const { id } = await requireJob(c, c.req.param("id"));
    const ticket = newTicket();
    const record = { jobId: id, keyId: c.var.principal.id, action };
    await c.var.backend.saveTicket(await sha256Hex(ticket), record, expires_in);
    const path = action === "stream" ? "events" : "cancel";
    const reply: Ticket = {
      object: "ticket",
      action,
      job_id: id,
      ticket,
      url: `/v1/jobs/${id}/${path}?ticket=${ticket}`,
      expires_at: Math.floor(Date.now() / 1000) + expires_in,
    };
    c.header("Cache-Control", "no-store");
    return c.json(reply, 201);
  });

  return routes;
}
