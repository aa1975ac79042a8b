/**
 * Tickets: what lets those who have no API key do one thing with one job, for a while. Random, and only their hash is stored:
 * no secret must be shared by edges, and a ticket ends with the API key that made it.
 */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";

/** `stream` reads the job's events, `cancel` cancels it. */
export const TicketAction = v.picklist(["stream", "cancel"]);
export type TicketAction = v.InferOutput<typeof TicketAction>;

/** `POST /v1/jobs/{id}/tickets` */
export const TicketRequest = v.strictObject({
  action: TicketAction,
  /** Seconds. */
  expires_in: v.optional(
    v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(LIMITS.ticketSecondsMax)),
    LIMITS.ticketSecondsDefault,
  ),
});

/** As it is stored. */
export const TicketRecord = v.object({
  jobId: v.string(),
  /** Of the API key that made it. */
  keyId: v.string(),
  action: TicketAction,
});
export type TicketRecord = v.InferOutput<typeof TicketRecord>;

/** A ticket as its maker gets it, once. */
export interface Ticket {
  readonly object: "ticket";
  readonly action: TicketAction;
  readonly job_id: string;
  readonly ticket: string;
  /** Path of what it opens, with the ticket in it. */
  readonly url: string;
  /** Unix seconds. */
  readonly expires_at: number;
}
