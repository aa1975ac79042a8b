/** The Durable Object that contains a hub. In a Worker, only sockets of a Durable Object stay open after a request. */
import { DurableObject } from "cloudflare:workers";
import { parseEnv } from "../runtime/env.ts";
import { Hub } from "./hub.ts";

export class StreamHub extends DurableObject {
  readonly #hub: Hub;

  constructor(state: DurableObjectState, bindings: Cloudflare.Env) {
    super(state, bindings);
    this.#hub = new Hub(parseEnv(bindings));
  }

  override fetch(request: Request): Response {
    return this.#hub.fetch(request);
  }
}
