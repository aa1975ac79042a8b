/** Redis goes down and comes back: what was accepted is not lost, and streams and workers go on by themselves. */
import { expect, test } from "vitest";
import {
  allEvents,
  countingFrom,
  finished,
  LONG,
  Reader,
  seqOf,
  textOf,
  useStack,
} from "./stack.ts";

const stack = useStack();

test("a crash of Redis in the middle of a job: its stream and its worker go on, and the text is the same", async () => {
  const { client, redisServer } = stack;
  const undisturbed = await finished(client, LONG);
  const { id } = await client.submit(LONG);
  const reader = new Reader(client, id);
  await reader.hasTokens(40);
  await redisServer.crash();

  const events = await reader.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(events.at(-1)).toMatchObject({ type: "succeeded" });
  expect(textOf(events)).toBe(undisturbed.output.text);
  expect(await allEvents(client, id)).toEqual(events);
});

test("a job that was accepted before a crash is run after it", async () => {
  const { client, redisServer } = stack;
  const { id } = await client.submit(LONG);
  await redisServer.crash();
  expect((await allEvents(client, id)).at(-1)).toMatchObject({ type: "succeeded" });
});
