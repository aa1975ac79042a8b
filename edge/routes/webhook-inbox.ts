/**
 * `/v1/webhook_inbox`: all webhooks of a tenant as server-sent events, for receivers that cannot be reached from outside. An
 * event's data is `{"headers", "body"}`, signed like a delivery: a POST with both is what a receiver would get.
 */
import { InboxEvent } from "../../shared/api/webhook-inbox.ts";
import { signedHeaders } from "../../shared/webhooks/signing.ts";
import type { AppContext } from "../http/context.ts";
import { route, type Route } from "../http/route.ts";
import { streamFrames, type SseFrame, type StreamControl } from "../http/sse.ts";
import { streamErrorBody } from "../middleware/errors.ts";
import { CURSOR, readCursor } from "../requests/job-access.ts";
import type { RouteSettings } from "./settings.ts";

export function inboxRoutes({ log }: Pick<RouteSettings, "log">): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/webhook_inbox",
        operationId: "streamWebhookInbox",
        tag: "Webhooks",
        summary: "Receive the tenant's webhooks as a stream",
        description:
          "The stream begins with new webhooks, or after the reader's last one. Each webhook is signed when it is sent. The stream does not end.",
        access: { scope: "jobs:read" },
        uses: [CURSOR],
        replies: { 200: { description: "The webhooks.", events: { data: InboxEvent } } },
      },
      async (c) => {
        const { tenant } = c.var.principal;
        const cursor = readCursor(c);
        const last = await c.var.stores.inbox.lastSeq(tenant);
        // Without a cursor the stream begins now. A cursor beyond the last message means that Redis lost messages.
        const after = Math.min(cursor ?? last, last);
        return streamFrames(
          c,
          (control) => inboxFrames(c, after, control),
          (error) => ({
            event: "error",
            data: JSON.stringify(streamErrorBody(c, log, tenant, error)),
          }),
        );
      },
    ),
  ];
}

async function* inboxFrames(
  c: AppContext,
  after: number,
  { signal, heartbeat }: StreamControl,
): AsyncGenerator<SseFrame> {
  const { tenant } = c.var.principal;
  // The first event has an id, so that a reader that reconnects before the first message has a cursor.
  yield { id: after, event: "ready", data: "{}" };
  let cursor = after;
  const entries = c.var.stores.followInbox(tenant, { after, signal, onIdle: heartbeat });
  for await (const { seq, id, type, body } of entries) {
    const missed = seq - cursor - 1;
    if (missed > 0) yield { event: "missed", data: JSON.stringify({ count: missed }) };
    cursor = seq;
    // Signed now, because receivers refuse messages that were signed more than five minutes ago.
    const keys = await c.var.stores.signingKeys.liveKeys(tenant);
    const sentAt = new Date(await c.var.stores.now());
    const headers = await signedHeaders(keys, id, body, sentAt);
    yield { id: seq, event: type, data: JSON.stringify({ headers, body }) };
  }
}
