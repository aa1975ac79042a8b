/** Tickets: a URL that does one thing with one job for a limited time. */
import { beforeEach, expect, test } from "vitest";
import type { Job } from "../../../shared/api/jobs.ts";
import { LIMITS } from "../../../shared/api/limits.ts";
import type { Ticket } from "../../../shared/api/tickets.ts";
import { ticketKey } from "../../../shared/redis/keys.ts";
import { sha256Hex } from "../../../shared/ids.ts";
import { errorOf, jobEvents, keys, newTenant, play, redis, send, type Client } from "../harness.ts";

let client: Client;
let job: Job;
beforeEach(async () => {
  client = await newTenant();
  job = await client.submit({ webhook: { url: "https://example.com/secret" } });
});

async function ticketTo(action: Ticket["action"], fields = {}): Promise<Ticket> {
  const reply = await client.post(`/v1/jobs/${job.id}/tickets`, { action, ...fields });
  if (reply.status !== 201) throw new Error(await reply.text());
  expect(reply.headers.get("cache-control")).toBe("no-store");
  return reply.json();
}

test("a browser of any origin follows a job without an API key, and continues after a break", async () => {
  const ticket = await ticketTo("stream");
  expect(ticket).toEqual({
    object: "ticket",
    action: "stream",
    job_id: job.id,
    ticket: expect.stringMatching(/^tk_[\w-]{43}$/),
    url: `/v1/jobs/${job.id}/events?ticket=${ticket.ticket}`,
    expires_at: expect.closeTo(Date.now() / 1000 + LIMITS.ticketSecondsDefault, -1),
  });
  await play(job.id, ["a", "b"]);
  // The requests of an EventSource, at first and after a break.
  const headers = { origin: "https://app.example", accept: "text/event-stream" };
  const first = await send(ticket.url, { headers });
  expect(first.headers.get("access-control-allow-origin")).toBe("*");
  expect(await jobEvents(first)).toHaveLength(5);
  const again = await send(ticket.url, { headers: { ...headers, "last-event-id": "4" } });
  expect(await jobEvents(again)).toMatchObject([{ seq: 5, type: "succeeded" }]);
});

test("a ticket to cancel cancels the job, and shows only its state", async () => {
  const ticket = await ticketTo("cancel");
  const reply = await send(ticket.url, { method: "POST" });
  expect(await reply.json()).toEqual({
    id: job.id,
    object: "job",
    state: "cancelled",
    cancel_requested: true,
  });
});

test("a ticket allows no other call", async () => {
  const other = await client.submit();
  const use = async (ticket: Ticket, path: string, method: string) =>
    (await send(`${path}?ticket=${ticket.ticket}`, { method })).status;
  const [stream, cancel] = [await ticketTo("stream"), await ticketTo("cancel")];
  for (const [path, method] of [
    [`/v1/jobs/${job.id}`, "GET"],
    [`/v1/jobs/${job.id}`, "DELETE"],
    [`/v1/jobs/${job.id}/tickets`, "POST"],
    [`/v1/jobs/${other.id}/events`, "GET"],
    [`/v1/jobs/${other.id}/cancel`, "POST"],
    [`/v1/chat/completions/${job.id}`, "GET"],
    ["/v1/jobs", "POST"],
    ["/v1/models", "GET"],
    ["/v1/keys", "GET"],
  ] as const) {
    expect(await use(stream, path, method)).toBe(403);
    expect(await use(cancel, path, method)).toBe(403);
  }
  expect(await use(stream, `/v1/jobs/${job.id}/cancel`, "POST")).toBe(403);
  expect(await use(cancel, `/v1/jobs/${job.id}/events`, "GET")).toBe(403);
});

test("a ticket ends when it expires, and when the key that made it is revoked", async () => {
  const brief = await ticketTo("cancel", { expires_in: 1 });
  await expect
    .poll(async () => (await send(brief.url, { method: "POST" })).status, { timeout: 5_000 })
    .toBe(401);
  const ticket = await ticketTo("stream");
  await keys.revoke(client.keyId);
  expect(await errorOf(await send(ticket.url))).toMatchObject({
    status: 401,
    message: "This ticket is not known, or has expired",
  });
});

test("only the hash of a ticket is stored", async () => {
  const { ticket } = await ticketTo("stream");
  expect(await redis.get(ticketKey(await sha256Hex(ticket)))).not.toContain(ticket);
  expect(await redis.exists(ticketKey(ticket))).toBe(0);
});

test("a key makes tickets only for calls that it may make itself, and only for jobs of its tenant", async () => {
  const reader = await newTenant({ scopes: ["jobs:read"] }, client.tenant);
  const ask = (by: Client, action: string, id = job.id) =>
    by.post(`/v1/jobs/${id}/tickets`, { action });
  expect((await ask(reader, "stream")).status).toBe(201);
  expect((await ask(reader, "cancel")).status).toBe(403);
  const writer = await newTenant({ scopes: ["jobs:write"] }, client.tenant);
  expect((await ask(writer, "stream")).status).toBe(403);
  expect((await ask(await newTenant(), "stream")).status).toBe(404);
});

test.each([
  [{}, "action"],
  [{ action: "read" }, "action"],
  [{ action: "stream", expires_in: 0 }, "expires_in"],
  [{ action: "stream", expires_in: LIMITS.ticketSecondsMax + 1 }, "expires_in"],
])("a ticket with %j is refused, and the error names the field", async (fields, param) => {
  const reply = await client.post(`/v1/jobs/${job.id}/tickets`, fields);
  expect(await errorOf(reply)).toMatchObject({ status: 400, param });
});

test.each(["", "tk_x", `tk_${"a".repeat(43)}`])("the ticket %j is refused", async (ticket) => {
  expect((await send(`/v1/jobs/${job.id}/events?ticket=${ticket}`)).status).toBe(401);
});

test("if a request has an API key and a ticket, the key counts", async () => {
  const { url } = await ticketTo("stream");
  const authorization = `Bearer ${(await newTenant()).key}`;
  expect((await send(url, { headers: { authorization } })).status).toBe(404);
});
