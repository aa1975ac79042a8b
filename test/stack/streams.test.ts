/** Readers of a job's events: however late, often or interrupted they come, each gets every event once and in order. */
import { expect, test } from "vitest";
import { allEvents, countingFrom, LONG, Reader, seqOf, SHORT, useStack } from "./stack.ts";

const stack = useStack();

test("readers that come early, late, twice and in between get the same events, each once", async () => {
  const { client } = stack;
  const { id } = await client.submit(LONG);
  const early = new Reader(client, id);
  await early.hasTokens(50);
  const late = new Reader(client, id);
  const half = early.events.length >> 1;
  const resumed = new Reader(client, id, half);
  await early.hasTokens(120);
  const later = new Reader(client, id);

  const events = await early.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(await late.ended).toEqual(events);
  expect(await later.ended).toEqual(events);
  expect(await resumed.ended).toEqual(events.slice(half));
  expect(await allEvents(client, id)).toEqual(events);
});

test("a reader that is cut off again and again, and comes back with Last-Event-ID, misses and repeats nothing", async () => {
  const { client } = stack;
  const { id } = await client.submit(LONG);
  const seen: number[] = [];
  for (;;) {
    const cut = new AbortController();
    const signal = AbortSignal.any([cut.signal, AbortSignal.timeout(30_000)]);
    const before = seen.length;
    for await (const event of client.events(id, { after: seen.length, signal })) {
      seen.push(event.seq);
      // Leaving the loop closes the connection, wherever in the stream it is.
      if (seen.length === before + 37) break;
    }
    if (seen.length < before + 37) break;
  }
  const all = await allEvents(client, id);
  expect(seen).toEqual(countingFrom(1, all.length));
});

test("a job goes on when all its readers leave", async () => {
  const { client } = stack;
  const { id } = await client.submit(LONG);
  for await (const event of client.events(id)) if (event.type === "tokens") break;
  const events = await allEvents(client, id);
  expect(events.at(-1)?.type).toBe("succeeded");
});

test("ten readers of one job, and readers of four jobs at once, do not mix", async () => {
  const { client } = stack;
  const jobs = await Promise.all(
    [1, 2, 3, 4].map((seed) => client.submit({ ...LONG, max_tokens: 60, temperature: 1, seed })),
  );
  const readings = await Promise.all(
    jobs.flatMap(({ id }, i) =>
      Array.from({ length: i === 0 ? 10 : 1 }, () => allEvents(client, id)),
    ),
  );
  const texts = new Set(readings.map((events) => JSON.stringify(events)));
  expect(texts.size).toBe(4);
});

test("after the end, a reader that has everything is told that there is no more", async () => {
  const { client } = stack;
  const { id } = await client.submit(SHORT);
  const { length } = await allEvents(client, id);
  const ask = (after: string) =>
    client.request(`/v1/jobs/${id}/events`, { headers: { "last-event-id": after } });
  expect((await ask(String(length))).status).toBe(204);
  expect((await ask("x")).status).toBe(400);
  expect(await allEvents(client, id, length - 1)).toHaveLength(1);
});
