/** The variables that middleware sets on a request for its route. */
import type { Context } from "hono";
import type { ApiKeyRecord } from "../../shared/keys/record.ts";
import type { AddressRanges } from "../../shared/webhooks/url.ts";
import type { TicketRecord } from "../redis/tickets.ts";
import type { RequestShards } from "../redis/request-shards.ts";
import type { RequestStores } from "../redis/stores.ts";
import type { CompileElsewhere } from "./compile-elsewhere.ts";
import type { Otlp } from "../runtime/env.ts";
import type { OpenBody } from "./body.ts";

export interface AppEnv {
  Bindings: {
    /** Opens the body of the request; absent on Cloudflare. */
    openBody?: OpenBody;
  };
  Variables: {
    requestId: string;
    /** The stores of this request's tenant, which the middleware closes. */
    stores: RequestStores;
    /** The stores on every shard, for the few requests that concern all tenants. */
    shards: RequestShards;
    /** The API key that the request is made with; set on every route under /v1. */
    principal: ApiKeyRecord;
    /** SHA-256 of the secret that the request sent; null if it has a ticket. Set with `principal`. */
    secretHash: string | null;
    /** The JSON body as it was sent; set before the handler of a route with a JSON body runs. */
    sentBody?: unknown;
    /** Addresses that webhooks may be sent to although they are not public. */
    webhookAllow: AddressRanges;
    /** Compiles response formats on another thread, where there is one. */
    compileElsewhere?: CompileElsewhere;
    /** A URL whose origin is that of links to the API. */
    publicUrl: string;
    /** Whether the server is about to end, and closes connections that clients would have kept. */
    isStopping: () => boolean;
    /** Where spans are sent; absent if none are sent. */
    otlp?: Otlp;
    /** Present if the request has a ticket instead of an API key: then it may do only what the ticket allows. */
    ticket?: TicketRecord;
    /** Resolves when the body was sent completely or its reader has disconnected; absent unless the reply streams. */
    streamEnd?: Promise<unknown>;
    /** Work that continues after the client has disconnected, and needs the stores. */
    disconnectWork?: Promise<unknown>;
  };
}

export type AppContext = Context<AppEnv>;
