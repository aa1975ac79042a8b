/** Workers that die or are told to go: their jobs go on elsewhere, and who reads along notices nothing but a pause. */
import { expect, test } from "vitest";
import {
  DEADLINE_MS,
  allEvents,
  countingFrom,
  finished,
  LONG,
  Reader,
  seqOf,
  SHORT,
  textOf,
  useStack,
} from "./stack.ts";

const stack = useStack(null);

/** Far from done when its worker is killed. */
const LONGER = { ...LONG, max_tokens: 400 };

/** Four different jobs, which one worker runs at once: greedy and sampled, steered and not. */
const JOBS = [
  LONGER,
  { ...LONGER, steering: { alpha: 0 } },
  { ...LONGER, temperature: 1, seed: 11 },
  { ...LONGER, model: "gsm-mini", temperature: 0.7, top_p: 0.9, seed: 12 },
];

test("a worker is killed in the middle of four jobs: another finishes them, with the texts of an undisturbed run", async () => {
  const { client } = stack;
  const first = await stack.startWorker();
  const jobs = await Promise.all(JOBS.map((input) => client.submit(input)));
  const readers = jobs.map(({ id }) => new Reader(client, id));
  await Promise.all(readers.map((reader) => reader.hasTokens(30)));

  first.child.kill("SIGKILL");
  // Not earlier: on a fast machine the jobs end before it has started.
  const second = await stack.startWorker();
  const startedMs = Date.now();
  await Promise.all(readers.map((reader) => reader.hasAttempt(2)));
  // Six seconds until the lock runs out, and up to two until somebody looks.
  expect(Date.now() - startedMs).toBeLessThan(10_000);

  const streams = await Promise.all(readers.map((reader) => reader.ended));
  const undisturbed = await Promise.all(JOBS.map((input) => finished(client, input)));
  for (const [i, events] of streams.entries()) {
    expect(seqOf(events)).toEqual(countingFrom(1, events.length));
    const starts = events.filter((event) => event.type === "started");
    expect(starts).toMatchObject([{ attempt: 1 }, { attempt: 2 }]);
    expect(events.at(-1)).toMatchObject({ type: "succeeded", finish_reason: "length" });
    expect(textOf(events)).toBe(undisturbed[i]?.output.text);
    const job = await client.read(jobs[i]?.id ?? "");
    // What was drafted and found again is the last attempt's.
    const { prompt_tokens, completion_tokens, total_tokens } = undisturbed[i]!.usage!;
    const usage = { prompt_tokens, completion_tokens, total_tokens };
    expect(job).toMatchObject({ state: "succeeded", attempts: 2, usage });
  }
  await second.stop();
});

test("a worker that is told to go finishes what it runs, takes nothing more, and ends with success", async () => {
  const { client } = stack;
  const worker = await stack.startWorker({ SLOTS: "1" });
  const running = await client.submit({ ...LONG, max_tokens: 150 });
  const reader = new Reader(client, running.id);
  await reader.hasTokens(1);
  const waiting = await client.submit(SHORT);

  worker.child.kill("SIGTERM");
  expect(await worker.child.exited).toEqual({ code: 0, signal: null });
  expect(await client.read(running.id)).toMatchObject({ state: "succeeded", attempts: 1 });
  expect(await client.read(waiting.id)).toMatchObject({ state: "queued", attempts: 0 });

  const next = await stack.startWorker();
  expect((await allEvents(client, waiting.id)).at(-1)?.type).toBe("succeeded");
  await next.stop();
});

test("what a worker cannot finish in its drain time, the next one goes on with", async () => {
  const { client } = stack;
  const worker = await stack.startWorker({ DRAIN_SECONDS: "0" });
  const undisturbed = await finished(client, LONG);
  const { id } = await client.submit(LONG);
  const reader = new Reader(client, id);
  await reader.hasTokens(30);
  worker.child.kill("SIGTERM");
  expect(await worker.child.exited).toEqual({ code: 0, signal: null });

  const next = await stack.startWorker();
  const events = await reader.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(textOf(events)).toBe(undisturbed.output.text);
  await next.stop();
});

test("a job submitted while no worker runs waits for one, or for its deadline", async () => {
  const { client } = stack;
  const patient = await client.submit(SHORT);
  const hasty = await client.submit({ ...SHORT, deadline: 1 });
  expect(await client.read(patient.id)).toMatchObject({ state: "queued" });
  const passed = () => Date.now() / 1000 - hasty.created_at;
  await expect.poll(passed, { timeout: DEADLINE_MS }).toBeGreaterThan(1);
  const worker = await stack.startWorker();
  expect((await allEvents(client, patient.id)).at(-1)?.type).toBe("succeeded");
  expect((await allEvents(client, hasty.id)).at(-1)).toMatchObject({ type: "expired" });
  await worker.stop();
});
