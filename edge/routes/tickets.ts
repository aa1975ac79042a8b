/** `/v1/jobs/{id}/tickets`: links that a server gives to a browser, whose EventSource cannot send an API key. */
import { sha256Hex } from "../../shared/ids.ts";
import { newTicket } from "../../shared/keys/secrets.ts";
import { Ticket, TicketRequest } from "../../shared/api/tickets.ts";
import { jsonBody, route, type Route } from "../http/route.ts";
import { requireScope } from "../middleware/authorize.ts";
import { JOB_ID, requireJob } from "../requests/job-access.ts";

export function ticketRoutes(): Route[] {
  return [
    route(
      {
        method: "POST",
        path: "/v1/jobs/{id}/tickets",
        operationId: "createJobTicket",
        tag: "Jobs",
        summary: "Make a URL that works without an API key",
        description:
          "The URL reads the job's events or cancels the job until the ticket expires. A ticket to cancel also needs the scope `jobs:write`.",
        access: { scope: "jobs:read" },
        params: { id: JOB_ID },
        body: jsonBody(TicketRequest, { action: "stream", expires_in: 3600 }),
        replies: {
          201: { description: "The ticket, which no later reply shows.", schema: Ticket },
        },
      },
      async (c, { params, body: { action, expires_in }, json }) => {
        requireScope(c, action === "stream" ? "jobs:read" : "jobs:write");
        const { id } = await requireJob(c, params.id);
        const ticket = newTicket(c.var.stores.shard);
        const record = { jobId: id, keyId: c.var.principal.id, action };
        await c.var.stores.tickets.save(await sha256Hex(ticket), record, expires_in);
        const path = action === "stream" ? "events" : "cancel";
        const reply: Ticket = {
          object: "ticket",
          action,
          job_id: id,
          ticket,
          url: `/v1/jobs/${id}/${path}?ticket=${ticket}`,
          expires_at: Math.floor((await c.var.stores.now()) / 1000) + expires_in,
        };
        c.header("Cache-Control", "no-store");
        return json(201, reply);
      },
    ),
  ];
}
