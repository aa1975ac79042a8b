/** Readers of a job's events: whenever and however often they connect, each one gets every event once and in order. */
import { expect, test } from "vitest";
import {
  allEvents,
  countingFrom,
  LONG_JOB,
  EventReader,
  seqOf,
  SHORT_JOB,
  useStack,
} from "./stack.ts";

const stack = useStack();

test("readers that connect early, late, again and from the middle get the same events, each once", async () => {
  const { client } = stack;
  const { id } = await client.submit(LONG_JOB);
  const early = new EventReader(client, id);
  await early.hasTokens(50);
  const late = new EventReader(client, id);
  const half = early.events.length >> 1;
  const resumed = new EventReader(client, id, half);
  await early.hasTokens(120);
  const later = new EventReader(client, id);

  const events = await early.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(await late.ended).toEqual(events);
  expect(await later.ended).toEqual(events);
  expect(await resumed.ended).toEqual(events.slice(half));
  expect(await allEvents(client, id)).toEqual(events);
});

test("a reader that is disconnected again and again and resumes with Last-Event-ID gets every event once", async () => {
  const { client } = stack;
  const { id } = await client.submit(LONG_JOB);
  const received: number[] = [];
  for (;;) {
    const cut = new AbortController();
    const signal = AbortSignal.any([cut.signal, AbortSignal.timeout(30_000)]);
    const before = received.length;
    for await (const event of client.events(id, { after: received.length, signal })) {
      received.push(event.seq);
      // Leaving the loop closes the connection.
      if (received.length === before + 37) break;
    }
    if (received.length < before + 37) break;
  }
  const all = await allEvents(client, id);
  expect(received).toEqual(countingFrom(1, all.length));
});

test("a job continues when all its readers disconnect", async () => {
  const { client } = stack;
  const { id } = await client.submit(LONG_JOB);
  for await (const event of client.events(id)) if (event.type === "tokens") break;
  const events = await allEvents(client, id);
  expect(events.at(-1)?.type).toBe("succeeded");
});

test("readers of four jobs at once, ten of them of one job, get the events of their own job", async () => {
  const { client } = stack;
  const jobs = await Promise.all(
    [1, 2, 3, 4].map((seed) =>
      client.submit({ ...LONG_JOB, max_tokens: 60, temperature: 1, seed }),
    ),
  );
  const readings = await Promise.all(
    jobs.flatMap(({ id }, i) =>
      Array.from({ length: i === 0 ? 10 : 1 }, () => allEvents(client, id)),
    ),
  );
  const texts = new Set(readings.map((events) => JSON.stringify(events)));
  expect(texts.size).toBe(4);
});

test("after the end, a reader that has all events gets 204", async () => {
  const { client } = stack;
  const { id } = await client.submit(SHORT_JOB);
  const { length } = await allEvents(client, id);
  const ask = (after: string) =>
    client.request(`/v1/jobs/${id}/events`, { headers: { "last-event-id": after } });
  expect((await ask(String(length))).status).toBe(204);
  expect((await ask("x")).status).toBe(400);
  expect(await allEvents(client, id, length - 1)).toHaveLength(1);
});
