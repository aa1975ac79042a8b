/** A job's events as a stream: each once and in order, from the reader's cursor on. */
import { expect, test } from "vitest";
import { eventChannel, jobKey, logKey } from "../../../shared/redis/keys.ts";
import {
  claim,
  errorOf,
  jobEvents,
  newTenant,
  play,
  redis,
  appendText,
  sse,
  store,
  success,
} from "../harness.ts";

const seqs = (events: { seq: number }[]) => events.map(({ seq }) => seq);

test("the stream of an ended job has all events, and then ends", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  await play(id, ["Hel", "lo"]);
  const reply = await client.get(`/v1/jobs/${id}/events`);
  expect(reply.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  const events = await Array.fromAsync(sse(reply));
  expect(events.map(({ id, event }) => [id, event])).toEqual([
    ["1", "queued"],
    ["2", "started"],
    ["3", "tokens"],
    ["4", "tokens"],
    ["5", "succeeded"],
  ]);
  expect(events.map(({ data }) => JSON.parse(data))).toEqual([
    { seq: 1, type: "queued" },
    { seq: 2, type: "started", attempt: 1 },
    { seq: 3, type: "tokens", ids: [3], text: "Hel" },
    { seq: 4, type: "tokens", ids: [2], text: "lo" },
    { seq: 5, type: "succeeded", ...success },
  ]);
});

test("events arrive as they happen", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const events = sse(await client.get(`/v1/jobs/${id}/events`));
  const next = async () => (await events.next()).value?.event;
  expect(await next()).toBe("queued");
  const { attempt } = await claim(id);
  expect(await next()).toBe("started");
  await appendText(id, attempt, "a");
  expect(await next()).toBe("tokens");
  await store.finish(id, attempt, "succeeded", "a", success);
  expect(await next()).toBe("succeeded");
  expect((await events.next()).done).toBe(true);
});

test.each([
  ["the header that a browser sends", "", { "last-event-id": "3" }],
  ["?after=", "?after=3", {}],
  ["?starting_after=", "?starting_after=3", {}],
  ["the header, which has precedence over the query", "?after=1", { "last-event-id": "3" }],
])("a stream continues after the reader's last event, given by %s", async (_, query, headers) => {
  const client = await newTenant();
  const { id } = await client.submit();
  await play(id, ["a", "b", "c"]);
  const events = await jobEvents(await client.get(`/v1/jobs/${id}/events${query}`, headers));
  expect(seqs(events)).toEqual([4, 5, 6]);
});

test("a reader that has the terminal event gets 204, so that an EventSource stops", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  await play(id, ["a"]);
  expect((await client.get(`/v1/jobs/${id}/events?after=4`)).status).toBe(204);
});

test.each(["-1", "x", "1.5", "9".repeat(40)])("the cursor %s is refused", async (cursor) => {
  const client = await newTenant();
  const { id } = await client.submit();
  const reply = await client.get(`/v1/jobs/${id}/events?after=${cursor}`);
  expect(await errorOf(reply)).toMatchObject({ status: 400, param: "after" });
});

test("the error for a wrong cursor names the header or the parameter that has it", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const path = `/v1/jobs/${id}/events`;
  const message = "Last-Event-ID must be the number of an event";
  const header = await client.get(`${path}?after=1`, { "last-event-id": "abc" });
  expect(await errorOf(header)).toMatchObject({ status: 400, param: "Last-Event-ID", message });
  const query = await client.get(`${path}?starting_after=abc`);
  expect(await errorOf(query)).toMatchObject({ status: 400, param: "starting_after" });
});

test.each(["queued", "ended"])(
  "a cursor beyond the last event of a job that has %s means that events were lost",
  async (state) => {
    const client = await newTenant();
    const { id } = await client.submit();
    if (state === "ended") await play(id, ["a"]);
    const path = `/v1/jobs/${id}/events`;
    const lost = { status: 410, code: "events_lost" };
    const query = await client.get(`${path}?after=5`);
    expect(await errorOf(query)).toMatchObject({ ...lost, param: "after" });
    const header = await client.get(`${path}?after=1`, { "last-event-id": "5" });
    expect(await errorOf(header)).toMatchObject({ ...lost, param: "Last-Event-ID" });
  },
);

test("the stream of a job whose last event cannot be read any more ends with not_found", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const events = sse(await client.get(`/v1/jobs/${id}/events`));
  await events.next();
  await redis.del(jobKey(id), logKey(id));
  const { value } = await events.next();
  expect(value).toMatchObject({ event: "error" });
  expect(JSON.parse(value!.data)).toMatchObject({ error: { code: "not_found" } });
  expect((await events.next()).done).toBe(true);
});

test("a stream without events sends heartbeats", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const reply = await client.get(`/v1/jobs/${id}/events?after=1`);
  const text = reply.body!.pipeThrough(new TextDecoderStream()).getReader();
  expect((await text.read()).value).toBe(":\n");
  await text.cancel();
});

test("early and late readers of one job read the same events", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const read = async () => seqs(await jobEvents(await client.get(`/v1/jobs/${id}/events`)));
  const early = [read(), read()];
  await play(id, ["a", "b"]);
  const all = [1, 2, 3, 4, 5];
  expect(await Promise.all([...early, read()])).toEqual([all, all, all]);
});

test("a reader that disconnects frees its connection, and the job continues", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const reply = await client.get(`/v1/jobs/${id}/events`);
  for await (const { event } of sse(reply)) if (event === "queued") break;
  await expect.poll(() => subscribers(id)).toBe(0);
  await play(id, ["still here"]);
  expect(await client.job(id)).toMatchObject({ state: "succeeded" });
});

test("a HEAD request opens no stream", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const reply = await client.send(`/v1/jobs/${id}/events`, "HEAD");
  expect(reply.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  expect(await subscribers(id)).toBe(0);
});

test("a stream continues after its connection to Redis was lost", async () => {
  const client = await newTenant();
  const { id } = await client.submit();
  const { attempt } = await claim(id);
  const others = await listeners();
  const events = sse(await client.get(`/v1/jobs/${id}/events?after=2`));
  await appendText(id, attempt, "a");
  await events.next();
  const mine = (await listeners()).filter((listener) => !others.includes(listener));
  for (const listener of mine) await redis.call("CLIENT", "KILL", "ID", listener);
  await appendText(id, attempt, "b");
  await store.finish(id, attempt, "succeeded", "ab", success);
  const rest = await Array.fromAsync(events);
  expect(rest.map(({ id }) => id)).toEqual(["4", "5"]);
});

/** The number of connections that are subscribed to the job's channel. */
async function subscribers(jobId: string): Promise<number> {
  const [, count] = (await redis.pubsub("NUMSUB", eventChannel(jobId))) as [string, number];
  return count;
}

/** Ids of the connections that are subscribed to any channel. */
async function listeners(): Promise<string[]> {
  const list = String(await redis.call("CLIENT", "LIST", "TYPE", "pubsub"));
  return Array.from(list.matchAll(/^id=(\d+)/gm), ([, id]) => id!);
}
