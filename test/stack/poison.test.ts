/** A job that kills whatever process runs it: it fails after a few attempts, and takes nobody with it. */
import { pathToFileURL } from "node:url";
import { join } from "node:path";
import { expect, test } from "vitest";
import { POISON_SEED } from "../support/poison.ts";
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

const stack = useStack(null);

const POISON = pathToFileURL(join(import.meta.dirname, "../support/poison.ts")).href;
const ENV = { LOCK_MS: "1000", ATTEMPTS_MAX: "2", SLOTS: "4", NODE_OPTIONS: `--import=${POISON}` };

/** A worker that is replaced whenever it dies, as an orchestrator would. */
async function keptUp(): Promise<{
  readonly deaths: () => number;
  readonly stop: () => Promise<void>;
}> {
  let stopping = false;
  let deaths = 0;
  let worker = await stack.startWorker(ENV);
  const watch = async (): Promise<void> => {
    await worker.child.exited;
    if (stopping) return;
    deaths++;
    worker = await stack.startWorker(ENV);
    await watch();
  };
  const watching = watch();
  const stop = async () => {
    stopping = true;
    await worker.stop();
    await watching;
  };
  return { deaths: () => deaths, stop };
}

test("a job that crashes its workers fails after so many attempts; its neighbours lose no attempt to it twice", async () => {
  const { client } = stack;
  const inputs = [LONG, { ...LONG, steering: { alpha: 0 } }, { ...LONG, temperature: 1, seed: 1 }];
  const workers = await keptUp();
  const neighbours = await Promise.all(inputs.map((input) => client.submit(input)));
  const readers = neighbours.map(({ id }) => new Reader(client, id));
  await Promise.all(readers.map((reader) => reader.hasTokens(5)));
  const poison = await client.submit({ ...LONG, seed: POISON_SEED });
  const later = await Promise.all(inputs.map((input) => client.submit(input)));

  expect((await allEvents(client, poison.id)).at(-1)).toMatchObject({
    type: "failed",
    error: { code: "worker_lost" },
  });
  expect(workers.deaths()).toBe(2);
  const undisturbed = await Promise.all(inputs.map((input) => finished(client, input)));
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
  await workers.stop();
});
