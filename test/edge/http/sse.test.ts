/**
 * Heartbeats between the events of every kind of stream: each parser that clients use reads the same events as without them,
 * also where a proxy changes line breaks or splits the stream at every byte.
 */
import OpenAI from "openai";
import OpenAI6 from "openai-6";
import { Stream } from "openai/streaming";
import { Stream as Stream6 } from "openai-6/streaming";
import { describe, expect, test } from "vitest";
import { SSE_PARSERS } from "../../support/sse-parsers.ts";
import { appendText, card, claim, newTenant, store, success, type Client } from "../harness.ts";

const HEARTBEAT = ":\n";
const PROMPT = { model: card.id, prompt: "Hi", stream: true };
const CHAT = { model: card.id, messages: [{ role: "user", content: "Hi" }], stream: true };

interface Recorded {
  readonly open: (client: Client) => Promise<Response>;
  /** How many jobs the stream has; 0 for the inbox. */
  readonly jobs: number;
  /** Whether the job fails. */
  readonly fails?: boolean;
}

const STREAMS: Readonly<Record<string, Recorded>> = {
  "the events of a job": {
    open: async (client) => client.get(`/v1/jobs/${(await client.submit()).id}/events`),
    jobs: 1,
  },
  "the events of a job that fails": {
    open: async (client) => client.get(`/v1/jobs/${(await client.submit()).id}/events`),
    jobs: 1,
    fails: true,
  },
  "a chat": {
    open: (client) =>
      client.post("/v1/chat/completions", { ...CHAT, stream_options: { include_usage: true } }),
    jobs: 1,
  },
  "a chat of two choices": {
    open: (client) => client.post("/v1/chat/completions", { ...CHAT, n: 2 }),
    jobs: 2,
  },
  "a chat that fails": {
    open: (client) => client.post("/v1/chat/completions", CHAT),
    jobs: 1,
    fails: true,
  },
  "a completion": { open: (client) => client.post("/v1/completions", PROMPT), jobs: 1 },
  "a response": {
    open: (client) => client.post("/v1/responses", { model: card.id, input: "Hi", stream: true }),
    jobs: 1,
  },
  "the webhook inbox": { open: (client) => client.get("/v1/webhook_inbox"), jobs: 0 },
};

describe.each(Object.entries(STREAMS))("%s", (_, stream) => {
  test("is read alike by all parsers", async () => {
    const text = await record(stream);
    const frames = text.replaceAll(/^:\n/gm, "").split("\n\n").slice(0, -1);
    const events = frames.map((frame) => /^data: ([^\n]*)$/m.exec(frame)![1]!);
    // A heartbeat follows each event but the last ones.
    expect(text.match(/\n\n:\n/g)!.length).toBeGreaterThanOrEqual(3);
    const openaiEvents = events.filter((data) => data !== "[DONE]").map(asOpenai);
    const wrong: string[] = [];
    const check = (reader: string, read: readonly string[], expected: readonly string[]) => {
      if (JSON.stringify(read) !== JSON.stringify(expected)) wrong.push(reader);
    };
    for (const [change, reply] of Object.entries(changes(text))) {
      for (const [parser, readEvents] of Object.entries(SSE_PARSERS)) {
        check(`${parser}, ${change}`, await readEvents(reply()), events);
      }
      for (const [major, open] of Object.entries(OPENAI)) {
        check(`${major}, ${change}`, await readWithOpenai(open(reply())), openaiEvents);
      }
    }
    expect(wrong).toEqual([]);
  });
});

/** Reads a stream. At the first heartbeat, and at the first one after new events, the next step of the stream's jobs is made. */
async function record({ open, jobs, fails = false }: Recorded): Promise<string> {
  const client = await newTenant();
  const reply = await open(client);
  const steps = jobs === 0 ? inboxSteps(client) : await jobSteps(client, jobs, fails);
  const reader = reply.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  let isNew = true;
  for (;;) {
    const { done, value = "" } = await reader.read();
    text += value;
    isNew ||= value.includes("\n\n");
    if (done) return text;
    if (!isNew || !text.endsWith(HEARTBEAT)) continue;
    isNew = false;
    const step = steps.shift();
    if (step) await step();
    else if (jobs === 0) {
      await reader.cancel();
      return text;
    }
  }
}

type Step = () => Promise<unknown>;

function inboxSteps(client: Client): Step[] {
  const cancelJob = async () => {
    const { id } = await client.submit();
    await client.post(`/v1/jobs/${id}/cancel`);
  };
  return [cancelJob, cancelJob];
}

/** Each step adds events to the stream, in any protocol. */
async function jobSteps(client: Client, jobs: number, fails: boolean): Promise<Step[]> {
  await expect.poll(() => client.queuedJobs()).toHaveLength(jobs);
  const ids = await client.queuedJobs();
  const error = { code: "internal", message: "The engine failed" } as const;
  const outcome = fails ? { ...success, finish_reason: null, error } : success;
  const start = async (id: string) => {
    await claim(id);
    await appendText(id, 1, "Grüße");
  };
  const append = (id: string) => appendText(id, 1, " 🌍\u0085\u2028");
  const end = (id: string) => store.finish(id, 1, fails ? "failed" : "succeeded", "", outcome);
  const all = (step: (id: string) => Promise<unknown>) => () => Promise.all(ids.map(step));
  return [start, append, append, end].map(all);
}

/** The stream as it is, and as proxies may pass it on. */
function changes(text: string): Record<string, () => Response> {
  const bytes = new TextEncoder().encode(text);
  const crlf = new TextEncoder().encode(text.replaceAll("\n", "\r\n"));
  return {
    "as sent": () => toReply([bytes]),
    "byte by byte": () => toReply([...bytes].map((byte) => Uint8Array.of(byte))),
    CRLF: () => toReply([crlf]),
    "CRLF byte by byte": () => toReply([...crlf].map((byte) => Uint8Array.of(byte))),
  };
}

function toReply(chunks: readonly Uint8Array[]): Response {
  const headers = { "content-type": "text/event-stream" };
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (const chunk of chunks) controller.enqueue(chunk);
      controller.close();
    },
  });
  return new Response(body, { headers });
}

const OPENAI = {
  "openai 7": (reply: Response) =>
    Stream.fromSSEResponse(reply, new AbortController(), new OpenAI({ apiKey: "x" })),
  "openai 6": (reply: Response) =>
    Stream6.fromSSEResponse(reply, new AbortController(), new OpenAI6({ apiKey: "x" })),
};

/** The chunks of a stream as JSON, and the message of its error. */
async function readWithOpenai(stream: AsyncIterable<unknown>): Promise<string[]> {
  const chunks: string[] = [];
  try {
    for await (const chunk of stream) chunks.push(JSON.stringify(chunk));
    return chunks;
  } catch (error) {
    return [...chunks, (error as Error).message];
  }
}

/** The chunk or the error that these clients make of an event's data. */
function asOpenai(data: string): string {
  const chunk = JSON.parse(data) as { error?: { message: string }; object?: string };
  return chunk.error && !chunk.object ? chunk.error.message : JSON.stringify(chunk);
}
