/** Workers that die or are told to go: their jobs go on elsewhere, and who reads along notices nothing but a pause. */
import { expect, test } from "vitest";
import type { Worker } from "../../infra/stack/worker.ts";
import { openWay, type RedisWay } from "../support/redis-way.ts";
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
  tokenIds,
  useStack,
} from "./stack.ts";

const stack = useStack(null);

/** Far from done when its worker is killed. */
const LONGER = { ...LONG, max_tokens: 400 };

/** 150 characters at least: not done either. */
const FORMAT = { type: "regex", pattern: "([a-z]{3,9} ){50,60}" } as const;

/** Different jobs, which one worker runs at once: greedy and sampled, steered and not, free and held to a format. */
const JOBS = [
  LONGER,
  { ...LONGER, steering: { alpha: 0 } },
  { ...LONGER, temperature: 1, seed: 11 },
  { ...LONGER, model: "gsm-mini", temperature: 0.7, top_p: 0.9, seed: 12 },
  { ...SHORT, max_tokens: 200, temperature: 1, seed: 13, response_format: FORMAT },
];

test("a worker is killed in the middle of five jobs: another finishes them, with the texts of an undisturbed run", async () => {
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
    expect(events.at(-1)?.type).toBe("succeeded");
    expect(textOf(events)).toBe(undisturbed[i]?.output.text);
    const job = await client.read(jobs[i]?.id ?? "");
    // What was drafted and found again is the last attempt's.
    const { prompt_tokens, completion_tokens, total_tokens } = undisturbed[i]!.usage!;
    const usage = { prompt_tokens, completion_tokens, total_tokens };
    expect(job).toMatchObject({ state: "succeeded", attempts: 2, usage });
  }
  await second.stop();
});

const SILENCES = [
  {
    name: "that freezes",
    fall: ({ child }: Worker) => child.kill("SIGSTOP"),
    wake: ({ child }: Worker) => child.kill("SIGCONT"),
  },
  {
    name: "that loses Redis",
    fall: (_: Worker, way: RedisWay) => way.lose(),
    wake: (_: Worker, way: RedisWay) => way.restore(),
  },
];

test.for(SILENCES)(
  "a worker $name is replaced; when it comes back it adds nothing, ends nothing and is free again",
  async ({ fall, wake }) => {
    const { client, redisServer } = stack;
    const way = await openWay(redisServer.url);
    const env = { LOCK_MS: "1000", SLOTS: "1" };
    const first = await stack.startWorker({ ...env, REDIS_URL: way.url });
    const { id } = await client.submit(LONGER);
    const reader = new Reader(client, id);
    await reader.hasTokens(20);
    fall(first, way);
    const second = await stack.startWorker(env);
    await reader.hasAttempt(2);
    const before = tokenIds(reader.events).length;
    await reader.hasTokens(before + 1);
    wake(first, way);

    const events = await reader.ended;
    expect(seqOf(events)).toEqual(countingFrom(1, events.length));
    const starts = events.filter((event) => event.type === "started");
    expect(starts).toMatchObject([{ attempt: 1 }, { attempt: 2 }]);
    // The only slot of the first one is free: it alone is there for another job.
    await second.stop();
    const undisturbed = await finished(client, LONGER);
    expect(textOf(events)).toBe(undisturbed.output.text);
    expect(undisturbed.attempts).toBe(1);
    expect(await allEvents(client, id)).toEqual(events);
    await first.stop();
    way.close();
  },
);

test("a rolling restart of all workers under load loses nothing and repeats nothing", async () => {
  const { client } = stack;
  const env = { LOCK_MS: "1000", SLOTS: "2", DRAIN_SECONDS: "1" };
  const old = await Promise.all([stack.startWorker(env), stack.startWorker(env)]);
  const inputs = JOBS.map((input) => ({ ...input, max_tokens: 150 }));
  const jobs = await Promise.all(inputs.map((input) => client.submit(input)));
  const readers = jobs.map(({ id }) => new Reader(client, id));
  await Promise.all(readers.slice(0, 3).map((reader) => reader.hasTokens(1)));
  const young: Worker[] = [];
  for (const { child } of old) {
    child.kill("SIGTERM");
    expect(await child.exited).toEqual({ code: 0, signal: null });
    young.push(await stack.startWorker(env));
  }
  const streams = await Promise.all(readers.map((reader) => reader.ended));
  const undisturbed = await Promise.all(inputs.map((input) => finished(client, input)));
  for (const [i, events] of streams.entries()) {
    expect(seqOf(events)).toEqual(countingFrom(1, events.length));
    expect(events.at(-1)?.type).toBe("succeeded");
    expect(textOf(events)).toBe(undisturbed[i]?.output.text);
  }
  await Promise.all(young.map((worker) => worker.stop()));
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
