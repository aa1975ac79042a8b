/** The inbox: each message once and in order, signed when it is sent, from wherever a reader was. */
import { Webhook } from "standardwebhooks";
import { afterEach, expect, test, vi } from "vitest";
import { inboxKey } from "../../shared/redis-keys.ts";
import { testMessage } from "../../shared/webhook.ts";
import { errorOf, newTenant, redis, sse, webhooks, type Client, type SseEvent } from "./harness.ts";

const INBOX = "/v1/webhook_inbox";

afterEach(() => {
  vi.useRealTimers();
});

interface Signed {
  readonly headers: Record<string, string>;
  readonly body: string;
}

const signed = ({ data }: SseEvent) => JSON.parse(data) as Signed;

/** Ends a job of the client. @returns the id of the message about it */
async function announced(client: Client): Promise<string> {
  const { id } = await client.submit();
  await client.post(`/v1/jobs/${id}/cancel`);
  return id.replace("job_", "msg_");
}

/** So many events of a stream, which is then hung up. */
async function take(reply: Response, count: number): Promise<SseEvent[]> {
  const events: SseEvent[] = [];
  for await (const event of sse(reply)) if (events.push(event) === count) break;
  return events;
}

test("messages arrive while they happen, as a receiver would get them, without any endpoint", async () => {
  const client = await newTenant();
  const events = sse(await client.get(INBOX));
  expect((await events.next()).value).toMatchObject({ id: "0", event: "ready" });
  const id = await announced(client);
  const { value } = await events.next();
  expect(value).toMatchObject({ id: "1", event: "job.cancelled" });
  const { headers, body } = signed(value as SseEvent);
  const [key] = await webhooks.signing.live(client.tenant);
  expect(new Webhook(key!.secret).verify(body, headers)).toMatchObject({ type: "job.cancelled" });
  expect(headers["webhook-id"]).toBe(id);
  expect(headers["webhook-signature"]).toMatch(/^v1,\S+ v1a,\S+$/);
  await events.return(undefined);
});

test("a reader comes back after its last message; without one it begins with what is new", async () => {
  const client = await newTenant();
  const ids = [await announced(client), await announced(client), await announced(client)];
  const back = await take(await client.get(INBOX, { "last-event-id": "1" }), 3);
  expect(back.map(({ id }) => id)).toEqual(["1", "2", "3"]);
  expect(back.slice(1).map((event) => signed(event).headers["webhook-id"])).toEqual(ids.slice(1));
  expect(await take(await client.get(`${INBOX}?after=0`), 4)).toHaveLength(4);
  expect(await take(await client.get(INBOX), 1)).toMatchObject([{ id: "3", event: "ready" }]);
});

test("what is read late is signed anew: a receiver refuses old signatures", async () => {
  const client = await newTenant();
  await announced(client);
  vi.useFakeTimers({ now: Date.now() + 3_600_000, toFake: ["Date"] });
  const [, event] = await take(await client.get(`${INBOX}?after=0`), 2);
  const { headers, body } = signed(event!);
  const [key] = await webhooks.signing.live(client.tenant);
  expect(() => new Webhook(key!.secret).verify(body, headers)).not.toThrow();
});

test("a reader is told how many messages it came too late for", async () => {
  const client = await newTenant();
  for (let i = 0; i < 4; i++) await announced(client);
  await redis.xtrim(inboxKey(client.tenant), "MINID", "4-0");
  const events = await take(await client.get(`${INBOX}?after=1`), 3);
  expect(events.map(({ event, data }) => [event, event === "missed" && data])).toEqual([
    ["ready", false],
    ["missed", '{"count":2}'],
    ["job.cancelled", false],
  ]);
});

test("numbers go on where they were when the messages themselves have expired", async () => {
  const client = await newTenant();
  await announced(client);
  await redis.del(inboxKey(client.tenant));
  const events = sse(await client.get(INBOX, { "last-event-id": "1" }));
  await events.next();
  await webhooks.inbox.append(client.tenant, testMessage("ep_x"));
  expect((await events.next()).value).toMatchObject({ id: "2", event: "webhook.test" });
  await events.return(undefined);
});

test("another tenant's messages are not in it, and a stream in which nothing happens shows that it lives", async () => {
  const [owner, stranger] = [await newTenant(), await newTenant()];
  const text = (await stranger.get(`${INBOX}?after=0`))
    .body!.pipeThrough(new TextDecoderStream())
    .getReader();
  await announced(owner);
  expect((await text.read()).value).toMatch(/^id: 0\nevent: ready/);
  expect((await text.read()).value).toBe(": heartbeat\n\n");
  await text.cancel();
});

test("a cursor that is no number is refused", async () => {
  const client = await newTenant();
  expect(await errorOf(await client.get(`${INBOX}?after=x`))).toMatchObject({ param: "after" });
});
