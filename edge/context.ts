/** What a request carries through the middleware to its route. */
import type { Context } from "hono";
import type { ApiKeyRecord } from "../shared/job.ts";
import type { AddressRanges } from "../shared/webhook-url.ts";
import type { TicketRecord } from "../shared/ticket.ts";
import type { Backend } from "./backend.ts";
import type { Otlp } from "./trace.ts";

export interface AppEnv {
  Variables: {
    requestId: string;
    /** This request's own; the middleware closes it. */
    backend: Backend;
    /** Who asks; set on every route under /v1. */
    principal: ApiKeyRecord;
    /** Where webhooks may go although it is not public. */
    webhookAllow: AddressRanges;
    /** Where spans go; absent if nowhere. */
    otlp?: Otlp;
    /** What the request is let do instead of what its key may, where a ticket stands for the key. */
    ticket?: TicketRecord;
    /** Resolves when the body has been sent or given up; absent unless the reply streams. */
    streamEnd?: Promise<unknown>;
    /** What is done for a client that has gone, and needs the backend. */
    lastWill?: Promise<unknown>;
  };
}

export type AppContext = Context<AppEnv>;
