/** The edge as it is deployed to Cloudflare: what depends on its runtime works there as on Node, where the other tests run it. */
import { gzipSync } from "node:zlib";
import OpenAI from "openai";
import { beforeAll, expect, test } from "vitest";
import { JobClient } from "../../infra/cli/job-client.ts";
import { startWorkerd } from "../support/workerd.ts";
import { allEvents, countingFrom, EventReader, LONG_JOB, seqOf, useStack } from "./stack.ts";

const stack = useStack();

let edge: Awaited<ReturnType<typeof startWorkerd>>;
let client: JobClient;
beforeAll(async () => {
  edge = await startWorkerd({
    REDIS_URL: stack.redisServer.url,
    STREAM_HEARTBEAT_SECONDS: "0.1",
    STREAM_LOCATION: "weur",
  });
  client = new JobClient(edge.url, stack.key.key);
});

test("a stream has the events that Node's stream has, from the start and after one of them", async () => {
  const { id } = await client.submit(LONG_JOB);
  const early = new EventReader(client, id);
  await early.hasTokens(50);
  const resumed = new EventReader(client, id, 10);
  const events = await early.ended;
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(await resumed.ended).toEqual(events.slice(10));
  expect(await allEvents(stack.client, id)).toEqual(events);
});

test("a running job is cancelled by request, and by a disconnect with Cancel-On-Disconnect", async () => {
  const running = await client.submit(LONG_JOB);
  const reader = new EventReader(client, running.id);
  await reader.hasTokens(5);
  await client.cancel(running.id);
  expect((await reader.ended).at(-1)?.type).toBe("cancelled");

  const connection = new AbortController();
  const chat = await client.request("/v1/chat/completions", {
    method: "POST",
    headers: { "cancel-on-disconnect": "true" },
    body: JSON.stringify({
      ...LONG_JOB,
      prompt: undefined,
      messages: [{ role: "user", content: "Hi" }],
      stream: true,
    }),
    signal: connection.signal,
  });
  connection.abort();
  const events = await allEvents(stack.client, chat.headers.get("x-trimtab-job-id")!);
  expect(events.at(-1)?.type).toBe("cancelled");
});

test("the official client gets the same chat, complete or streamed", async () => {
  const openai = new OpenAI({ apiKey: stack.key.key, baseURL: `${edge.url}/v1` });
  const request = {
    model: "atlas-qa",
    messages: [{ role: "user" as const, content: "What is the capital of France?" }],
    temperature: 0,
    max_tokens: 12,
  };
  const complete = await openai.chat.completions.create(request);
  const chunks = await Array.fromAsync(
    await openai.chat.completions.create({ ...request, stream: true }),
  );
  const streamed = chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join("");
  expect(streamed).toBe(complete.choices[0]?.message.content);
  expect(streamed).not.toBe("");
});

test("the pages have their scripts, and the playground and the operator's page need less than 150 kB together", async () => {
  const read = async (path: string) => (await fetch(edge.url + path)).arrayBuffer();
  expect((await read("/docs/reference.js")).byteLength).toBeGreaterThan(0);
  const paths = ["/play", "/admin"].flatMap((page) => [
    page,
    `${page}/script.js`,
    `${page}/style.css`,
  ]);
  const files = await Promise.all(paths.map(read));
  const sizes = files.map((file) => gzipSync(file).length);
  expect(Math.min(...sizes)).toBeGreaterThan(500);
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(150_000);
});

test("the bundle is below the lowest limit of Cloudflare's plans, 3 MB compressed", () => {
  expect(edge.bundleGzipBytes).toBeGreaterThan(100_000);
  expect(edge.bundleGzipBytes).toBeLessThan(3_000_000);
});

test("a file is stored as it was sent", async () => {
  const openai = new OpenAI({ apiKey: stack.key.key, baseURL: `${edge.url}/v1` });
  const content = `${JSON.stringify({ custom_id: "1", text: "é".repeat(400_000) })}\n`;
  const file = await openai.files.create({
    file: new File([content], "lines.jsonl"),
    purpose: "batch",
  });
  expect(await (await openai.files.content(file.id)).text()).toBe(content);
});
