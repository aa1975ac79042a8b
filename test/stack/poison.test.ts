/** A job that kills every process that runs it fails after a few attempts, and no other job fails with it. */
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { expect, test } from "vitest";
import { POISON_SEED } from "../support/poison.ts";
import {
  allEvents,
  countingFrom,
  runToEnd,
  LONG_JOB,
  EventReader,
  seqOf,
  textOf,
  useStack,
} from "./stack.ts";

const stack = useStack(null);

const POISON = pathToFileURL(join(import.meta.dirname, "../support/poison.ts")).href;
const ENV = { LOCK_MS: "3000", ATTEMPTS_MAX: "2", SLOTS: "4", NODE_OPTIONS: `--import=${POISON}` };

test("a job that crashes its workers fails after ATTEMPTS_MAX attempts; jobs beside it lose one attempt at most", async () => {
  const { client } = stack;
  const inputs = [
    LONG_JOB,
    { ...LONG_JOB, steering: { alpha: 0 } },
    { ...LONG_JOB, temperature: 1, seed: 1 },
  ];
  const worker = await stack.startWorker(ENV);
  const neighbours = await Promise.all(inputs.map((input) => client.submit(input)));
  const readers = neighbours.map(({ id }) => new EventReader(client, id));
  await Promise.all(readers.map((reader) => reader.hasTokens(5)));
  const poison = await client.submit({ ...LONG_JOB, seed: POISON_SEED });
  const later = await Promise.all(inputs.map((input) => client.submit(input)));

  expect((await allEvents(client, poison.id)).at(-1)).toMatchObject({
    type: "failed",
    error: { code: "worker_lost" },
  });
  expect(worker.child.output.split("The generating process was lost").length - 1).toBe(2);
  const undisturbed = await Promise.all(inputs.map((input) => runToEnd(client, input)));
  for (const [i, reader] of readers.entries()) {
    const events = await reader.ended;
    expect(seqOf(events)).toEqual(countingFrom(1, events.length));
    expect(textOf(events)).toBe(undisturbed[i]?.output.text);
  }
  for (const [i, { id }] of [...neighbours, ...later].entries()) {
    await allEvents(client, id);
    const job = await client.read(id);
    expect(job).toMatchObject({ state: "succeeded" });
    expect(job.attempts).toBeLessThanOrEqual(2);
    expect(job.output.text).toBe(undisturbed[i % inputs.length]?.output.text);
  }
  await worker.stop();
});
