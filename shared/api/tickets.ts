/**
 * Tickets: a ticket allows one action on one job, without an API key, for a limited time. It is a random text whose hash is in
 * Redis, so the processes of the edge need no common secret. It stops working when the API key that created it is revoked.
 */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { requestObject } from "./request-object.ts";
import { count, EXAMPLE_TIME, field, integer, type Reply } from "./schema.ts";

export const TicketAction = v.pipe(
  v.picklist(["stream", "cancel"]),
  v.description("`stream` reads the job's events, `cancel` cancels the job."),
);
export type TicketAction = v.InferOutput<typeof TicketAction>;

/** `POST /v1/jobs/{id}/tickets` */
export const TicketRequest = requestObject({
  action: field(TicketAction, "What the ticket allows.", { examples: ["stream"] }),
  expires_in: field(
    v.optional(integer(1, LIMITS.ticketSecondsMax), LIMITS.ticketSecondsDefault),
    "Seconds for which the ticket is valid: up to 7 days.",
  ),
});

/** A new ticket. No later reply shows it. */
export const Ticket = v.strictObject({
  object: field(v.literal("ticket"), "The type of this object: `ticket`."),
  action: field(TicketAction, "What the ticket allows."),
  job_id: field(v.string(), "The id of the ticket's job."),
  ticket: field(v.string(), "The ticket, which only this reply shows.", {
    examples: ["tk_…"],
  }),
  url: field(v.string(), "The path and query to request: the query contains the ticket.", {
    examples: ["/v1/jobs/job_0198c2f4e5b07a31/events?ticket=tk_…"],
  }),
  expires_at: field(count, "When the ticket expires, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME + 3600],
  }),
});
export type Ticket = Reply<typeof Ticket>;
