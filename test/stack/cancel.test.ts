/** Cancelling: at once while queued, at the next token while running, and without effect afterwards. */
import { expect, test } from "vitest";
import { JobClient } from "../../infra/job-client.ts";
import { startEdge } from "../../infra/stack/edge.ts";
import { bellChannel } from "../../shared/redis-keys.ts";
import {
  allEvents,
  DEADLINE_MS,
  finished,
  LONG,
  Reader,
  SHORT,
  textOf,
  tokenIds,
  typesOf,
  useStack,
} from "./stack.ts";

const stack = useStack(null);

test("a queued job is cancelled at once, never runs, and stays as it was when cancelled again", async () => {
  const { client } = stack;
  const worker = await stack.startWorker({ SLOTS: "1" });
  const running = await client.submit(LONG);
  await new Reader(client, running.id).hasTokens(1);
  const { id } = await client.submit(SHORT);

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

  // The slot gets free; what was cancelled must not be taken up then.
  await client.cancel(running.id);
  await finished(client, SHORT);
  expect(await client.read(id)).toEqual(cancelled);
  await worker.stop();
});

test("a running job stops within a few tokens, keeps its text and counts it; cancelling again changes nothing", async () => {
  const { client } = stack;
  const worker = await stack.startWorker();
  // As many as the context has room for: drafts make 200 in less than it takes to read and to cancel.
  const { id } = await client.submit({ ...LONG, max_tokens: 500 });
  const reader = new Reader(client, id);
  await reader.hasTokens(20);

  const asked = await client.cancel(id);
  expect(asked.cancel_requested).toBe(true);
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

test("a job that has succeeded stays so, and its worker has counted it", async () => {
  const worker = await stack.startWorker();
  const job = await finished(stack.client, SHORT);
  expect(await stack.client.cancel(job.id)).toEqual(job);
  const metrics = async () => (await fetch(`${worker.healthUrl}/metrics`)).text();
  const tokens = `trimtab_generated_tokens_total ${job.usage?.completion_tokens}\n`;
  await expect.poll(metrics, { timeout: 10_000 }).toContain(tokens);
  await expect.poll(metrics).toContain('trimtab_jobs_ended_total{state="succeeded"} 1\n');
  await worker.stop();
});

test("a client that leaves a stream cancels its job if it said so, and only then", async () => {
  const { redis, redisServer, key } = stack;
  // workerd learns that a connection is gone when it writes to it: at the next token, or heartbeat.
  const env = { STREAM_HEARTBEAT_SECONDS: "0.1" };
  const edge = await startEdge({ redisUrl: redisServer.url, env });
  const client = new JobClient(edge.url, key.key);
  const leave = async (headers: Record<string, string>) => {
    const gone = new AbortController();
    const body = JSON.stringify({ ...SHORT, stream: true });
    const { signal } = gone;
    const reply = await client.request("/v1/chat/completions", {
      method: "POST",
      headers,
      body,
      signal,
    });
    const id = reply.headers.get("x-trimtab-job-id")!;
    const listeners = async () => (await redis.pubsub("NUMSUB", bellChannel(id)))[1];
    await expect.poll(listeners, { timeout: DEADLINE_MS }).toBe(1);
    gone.abort();
    await expect.poll(listeners, { timeout: DEADLINE_MS }).toBe(0);
    return id;
  };
  const kept = await leave({});
  expect((await client.read(await leave({ "cancel-on-disconnect": "true" }))).state).toBe(
    "cancelled",
  );
  expect((await client.read(kept)).state).toBe("queued");
  await client.cancel(kept);
  await edge.stop();
});
