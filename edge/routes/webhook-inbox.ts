/**
 * The inbox: every webhook of a tenant over SSE, signed as a delivery is, for those whom no request can reach. An event's
 * data is `{"headers", "body"}`, and forwarding both gives what a receiver would have got.
 */
import { Hono } from "hono";
import { signedHeaders } from "../../shared/signing.ts";
import type { AppContext, AppEnv } from "../context.ts";
import { readCursor } from "../job-access.ts";
import type { Log } from "../log.ts";
import { streamErrorBody } from "../middleware/errors.ts";
import { streamFrames, type Frame, type StreamControl } from "../sse.ts";

export function inboxRoutes(log: Log): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get("/", async (c) => {
    const { tenant } = c.var.principal;
    const cursor = readCursor(c);
    const last = await c.var.backend.webhooks(({ inbox }) => inbox.last(tenant));
    // Without a cursor from now on; nobody can have read what is not there yet, unless Redis lost it.
    const after = Math.min(cursor ?? last, last);
    return streamFrames(
      c,
      (control) => frames(c, after, control),
      (error) => ({ event: "error", data: JSON.stringify(streamErrorBody(c, log, tenant, error)) }),
    );
  });

  return routes;
}

async function* frames(
  c: AppContext,
  after: number,
  { signal, heartbeat }: StreamControl,
): AsyncGenerator<Frame> {
  const { backend, principal } = c.var;
  const { tenant } = principal;
  // Gives the reader a cursor to come back with before there is any message.
  yield { id: after, event: "ready", data: "{}" };
  let cursor = after;
  const entries = backend.followInbox(tenant, { after, signal, onIdle: heartbeat });
  for await (const { seq, id, type, body } of entries) {
    const missed = seq - cursor - 1;
    if (missed > 0) yield { event: "missed", data: JSON.stringify({ count: missed }) };
    cursor = seq;
    // Signed when it is sent, because receivers refuse what was signed more than five minutes ago.
    const keys = await backend.webhooks(({ signing }) => signing.live(tenant));
    const headers = await signedHeaders(keys, id, body, new Date());
    yield { id: seq, event: type, data: JSON.stringify({ headers, body }) };
  }
}
