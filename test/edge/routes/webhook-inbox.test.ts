/** The webhook inbox: each message once and in order, from the reader's cursor on, signed when it is sent. */
import { Webhook } from "standardwebhooks";
import { afterEach, expect, test, vi } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import { inboxKey } from "../../../shared/redis/keys.ts";
import { testMessage } from "../../../shared/webhooks/message.ts";
import {
  card,
  errorOf,
  newTenant,
  openaiOf,
  redis,
  sse,
  webhooks,
  type Client,
  type SseEvent,
} from "../harness.ts";

const INBOX = "/v1/webhook_inbox";

afterEach(() => {
  vi.useRealTimers();
});

interface SignedMessage {
  readonly headers: Record<string, string>;
  readonly body: string;
}

const toMessage = ({ data }: SseEvent) => JSON.parse(data) as SignedMessage;

/** Submits and cancels a job, which sends a message. @returns the message's id */
async function cancelJob(client: Client): Promise<string> {
  const { id } = await client.submit();
  await client.post(`/v1/jobs/${id}/cancel`);
  return id.replace("job_", "msg_");
}

/** The first events of a stream, which is then closed. */
async function takeEvents(reply: Response, count: number): Promise<SseEvent[]> {
  const events: SseEvent[] = [];
  for await (const event of sse(reply)) if (events.push(event) === count) break;
  return events;
}

test("messages arrive as they happen, like those to a receiver, and without any endpoint", async () => {
  const client = await newTenant();
  const events = sse(await client.get(INBOX));
  expect((await events.next()).value).toMatchObject({ id: "0", event: "ready" });
  const id = await cancelJob(client);
  const { value } = await events.next();
  expect(value).toMatchObject({ id: "1", event: "job.cancelled" });
  const { headers, body } = toMessage(value as SseEvent);
  const [key] = await webhooks.signing.liveKeys(client.tenant);
  expect(new Webhook(key!.secret).verify(body, headers)).toMatchObject({ type: "job.cancelled" });
  expect(headers["webhook-id"]).toBe(id);
  expect(headers["webhook-signature"]).toMatch(/^v1,\S+ v1a,\S+$/);
  await events.return(undefined);
});

test("jobs of a request with more jobs than choices displace no other messages", async () => {
  const client = await newTenant();
  const cancelAll = async (count: number) => {
    const prompt = Array.from({ length: count }, () => "x");
    const answer = client.post("/v1/completions", { model: card.id, prompt });
    await vi.waitFor(async () => expect(await client.queuedJobs()).toHaveLength(count), 10_000);
    const ids = (await client.queuedJobs()).toSorted((a, b) => a.length - b.length);
    // The second job, and the last one, do not tell themselves how many there are. The first one ends last.
    for (const id of ids.toReversed()) await client.post(`/v1/jobs/${id}/cancel`);
    await answer;
    return redis.xlen(inboxKey(client.tenant));
  };
  expect(await cancelAll(LIMITS.choicesMax + 1)).toBe(0);
  expect(await cancelAll(LIMITS.choicesMax)).toBe(LIMITS.choicesMax);
});

test("a reader continues after its last message, or begins with new messages", async () => {
  const client = await newTenant();
  const ids = [await cancelJob(client), await cancelJob(client), await cancelJob(client)];
  const back = await takeEvents(await client.get(INBOX, { "last-event-id": "1" }), 3);
  expect(back.map(({ id }) => id)).toEqual(["1", "2", "3"]);
  expect(back.slice(1).map((event) => toMessage(event).headers["webhook-id"])).toEqual(
    ids.slice(1),
  );
  expect(await takeEvents(await client.get(`${INBOX}?after=0`), 4)).toHaveLength(4);
  expect(await takeEvents(await client.get(INBOX), 1)).toMatchObject([{ id: "3", event: "ready" }]);
});

test("a message that is read late has a new signature, because receivers refuse old ones", async () => {
  const client = await newTenant();
  // The time of Redis counts, so the message is old instead of the clock being late.
  const { body: sent, ...message } = testMessage("ep_1");
  const timestamp = new Date(Date.now() - 3_600_000).toISOString();
  const old = JSON.stringify({ ...(JSON.parse(sent) as object), timestamp });
  await webhooks.inbox.append(client.tenant, { ...message, body: old });
  const [, event] = await takeEvents(await client.get(`${INBOX}?after=0`), 2);
  const { headers, body } = toMessage(event!);
  const [key] = await webhooks.signing.liveKeys(client.tenant);
  expect(() => new Webhook(key!.secret).verify(body, headers)).not.toThrow();
});

test("a reader that comes too late learns how many messages it missed", async () => {
  const client = await newTenant();
  for (let i = 0; i < 4; i++) await cancelJob(client);
  await redis.xtrim(inboxKey(client.tenant), "MINID", "4-0");
  const events = await takeEvents(await client.get(`${INBOX}?after=1`), 3);
  expect(events.map(({ event, data }) => [event, event === "missed" && data])).toEqual([
    ["ready", false],
    ["missed", '{"count":2}'],
    ["job.cancelled", false],
  ]);
});

test("the numbers of messages continue after the messages have expired", async () => {
  const client = await newTenant();
  await cancelJob(client);
  await redis.del(inboxKey(client.tenant));
  const events = sse(await client.get(INBOX, { "last-event-id": "1" }));
  await events.next();
  await webhooks.inbox.append(client.tenant, testMessage("ep_x"));
  expect((await events.next()).value).toMatchObject({ id: "2", event: "webhook.test" });
  await events.return(undefined);
});

test("the inbox has no messages of other tenants, and a stream without messages sends heartbeats", async () => {
  const [owner, stranger] = [await newTenant(), await newTenant()];
  const text = (await stranger.get(`${INBOX}?after=0`))
    .body!.pipeThrough(new TextDecoderStream())
    .getReader();
  await cancelJob(owner);
  expect((await text.read()).value).toMatch(/^id: 0\nevent: ready/);
  expect((await text.read()).value).toBe(":\n");
  await text.cancel();
});

test("a cursor that is not a number is refused", async () => {
  const client = await newTenant();
  expect(await errorOf(await client.get(`${INBOX}?after=x`))).toMatchObject({ param: "after" });
});

test("the end of a response is also announced as OpenAI does, so that its client verifies and types the message", async () => {
  const client = await newTenant();
  const openai = openaiOf(client);
  const { id } = await openai.responses.create({ model: card.id, input: "Hi", background: true });
  await openai.responses.cancel(id);
  const [ready, job, response] = await takeEvents(await client.get(`${INBOX}?after=0`), 3);
  expect([ready!.event, job!.event, response!.event]).toEqual([
    "ready",
    "job.cancelled",
    "response.cancelled",
  ]);
  const { headers, body } = toMessage(response!);
  const [key] = await webhooks.signing.liveKeys(client.tenant);
  const event = await openai.webhooks.unwrap(body, headers, key!.secret);
  expect(event).toMatchObject({ object: "event", type: "response.cancelled", data: { id } });
  expect(event.id).toBe(headers["webhook-id"]);
});
