/** Cancelling a job: at once while it is queued, at the next token while it runs, and without effect after its end. */
import { expect, test } from "vitest";
import { JobClient } from "../../infra/cli/job-client.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import { eventChannel } from "../../shared/redis/keys.ts";
import {
  allEvents,
  DEADLINE_MS,
  runToEnd,
  LONG_JOB,
  EventReader,
  SHORT_JOB,
  textOf,
  tokenIds,
  typesOf,
  useStack,
} from "./stack.ts";

const stack = useStack(null);

test("a queued job is cancelled at once and never runs; cancelling it again changes nothing", async () => {
  const { client } = stack;
  const worker = await stack.startWorker({ SLOTS: "1" });
  const running = await client.submit(LONG_JOB);
  await new EventReader(client, running.id).hasTokens(1);
  const { id } = await client.submit(SHORT_JOB);

  const cancelled = await client.cancel(id);
  expect(cancelled).toMatchObject({
    state: "cancelled",
    attempts: 0,
    started_at: null,
    error: null,
    output: { text: "", finish_reason: null },
    usage: { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 },
  });
  expect(typesOf(await allEvents(client, id))).toEqual(["queued", "cancelled"]);
  expect(await client.cancel(id)).toEqual(cancelled);

  // The slot becomes free; the cancelled job must not run now.
  await client.cancel(running.id);
  await runToEnd(client, SHORT_JOB);
  expect(await client.read(id)).toEqual(cancelled);
  await worker.stop();
});

test("a running job stops within a few tokens and keeps its text and usage; cancelling it again changes nothing", async () => {
  const { client } = stack;
  const worker = await stack.startWorker();
  // As many tokens as the context allows: with drafts, 200 are generated faster than this test can read and cancel.
  const { id } = await client.submit({ ...LONG_JOB, max_tokens: 500 });
  const reader = new EventReader(client, id);
  await reader.hasTokens(20);

  const cancelling = await client.cancel(id);
  expect(cancelling.cancel_requested).toBe(true);
  const events = await reader.ended;
  expect(events.at(-1)).toMatchObject({ type: "cancelled", finish_reason: null, error: null });

  const job = await client.read(id);
  expect(job).toMatchObject({
    state: "cancelled",
    output: { text: textOf(events), finish_reason: null },
  });
  expect(job.usage?.completion_tokens).toBe(tokenIds(events).length);
  expect(job.usage?.prompt_tokens).toBeGreaterThan(0);
  expect(tokenIds(events).length).toBeGreaterThanOrEqual(20);
  expect(tokenIds(events).length).toBeLessThan(500);
  expect(await client.cancel(id)).toEqual(job);
  await worker.stop();
});

test("cancelling a succeeded job changes nothing, and its worker has counted it as succeeded", async () => {
  const worker = await stack.startWorker();
  const job = await runToEnd(stack.client, SHORT_JOB);
  expect(await stack.client.cancel(job.id)).toEqual(job);
  const metrics = async () => (await fetch(`${worker.healthUrl}/metrics`)).text();
  /** A line of the job's model, with the labels in any order. */
  const line = (name: string, label: string, value: number | undefined) =>
    new RegExp(
      `^trimtab_${name}\\{(?=[^}]*model="${job.model}")[^}]*${label}[^}]*\\} ${value}$`,
      "m",
    );
  const tokens = line("generated_tokens_total", "", job.usage?.completion_tokens);
  await expect.poll(metrics, { timeout: DEADLINE_MS }).toMatch(tokens);
  const ended = line("jobs_ended_total", 'state="succeeded"', 1);
  await expect.poll(metrics, { timeout: DEADLINE_MS }).toMatch(ended);
  await worker.stop();
});

test("a client that disconnects from a stream cancels its job only with Cancel-On-Disconnect: true", async () => {
  const { redis, redisServer, key } = stack;
  const edge = await startEdge({ redisUrl: redisServer.url });
  const client = new JobClient(edge.url, key.key);
  const disconnect = async (headers: Record<string, string>) => {
    const connection = new AbortController();
    const body = JSON.stringify({ ...SHORT_JOB, stream: true });
    const { signal } = connection;
    const reply = await client.request("/v1/chat/completions", {
      method: "POST",
      headers,
      body,
      signal,
    });
    const id = reply.headers.get("x-trimtab-job-id")!;
    const subscribers = async () => (await redis.pubsub("NUMSUB", eventChannel(id)))[1];
    await expect.poll(subscribers, { timeout: DEADLINE_MS }).toBe(1);
    connection.abort();
    await expect.poll(subscribers, { timeout: DEADLINE_MS }).toBe(0);
    return id;
  };
  const continuedJob = await disconnect({});
  expect((await client.read(await disconnect({ "cancel-on-disconnect": "true" }))).state).toBe(
    "cancelled",
  );
  expect((await client.read(continuedJob)).state).toBe("queued");
  await client.cancel(continuedJob);
  await edge.stop();
});
