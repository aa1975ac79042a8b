/** The event stream of the Responses API, read directly and with the stream helpers of both major versions of the client. */
import OpenAI from "openai";
import OpenAI6 from "openai-6";
import { beforeEach, describe, expect, test } from "vitest";
import type { Outcome } from "../../../shared/api/job-events.ts";
import { logKey } from "../../../shared/redis/keys.ts";
import {
  card,
  claim,
  errorOf,
  newTenant,
  openaiOf,
  redis,
  appendText,
  sse,
  store,
  success,
  usage,
  type Client,
} from "../harness.ts";

const ask = { model: card.id, input: "Hi" };

let tenant: Client;
beforeEach(async () => {
  tenant = await newTenant();
});

interface StreamedEvent {
  readonly type: string;
  readonly sequence_number: number;
}

/** The events of a stream that ends with `[DONE]`. */
async function readEvents(reply: Response): Promise<StreamedEvent[]> {
  const frames = await Array.fromAsync(sse(reply));
  expect(frames.pop()).toEqual({ id: undefined, event: undefined, data: "[DONE]" });
  return frames.map(({ data }) => JSON.parse(data) as StreamedEvent);
}

const OPEN = [
  "response.created",
  "response.queued",
  "response.in_progress",
  "response.output_item.added",
  "response.content_part.added",
];
const CLOSE = [
  "response.output_text.done",
  "response.content_part.done",
  "response.output_item.done",
];

describe("a stream", () => {
  test("has the protocol's events in order and numbered, each as it happens", async () => {
    const reply = await tenant.post("/v1/responses", { ...ask, stream: true });
    const frames = sse(reply);
    const next = async (count: number) => {
      const events = [];
      for (let i = 0; i < count; i++) events.push((await frames.next()).value);
      return events;
    };
    const types = (events: { event: string | undefined }[]) => events.map(({ event }) => event);
    expect(types(await next(2))).toEqual(OPEN.slice(0, 2));
    const id = await tenant.queuedJob();
    const { attempt } = await claim(id);
    expect(types(await next(3))).toEqual(OPEN.slice(2));
    await appendText(id, attempt, "Hel");
    const [delta] = await next(1);
    expect(delta).toMatchObject({ id: "5", event: "response.output_text.delta" });
    expect(JSON.parse(delta!.data)).toEqual({
      type: "response.output_text.delta",
      sequence_number: 5,
      item_id: id.replace("job_", "msg_"),
      output_index: 0,
      content_index: 0,
      delta: "Hel",
      logprobs: [],
    });
    await appendText(id, attempt, "lo");
    await store.finish(id, attempt, "succeeded", "Hello", success);
    const rest = await Array.fromAsync(frames);
    expect(rest.pop()?.data).toBe("[DONE]");
    expect(types(rest)).toEqual(["response.output_text.delta", ...CLOSE, "response.completed"]);
    expect(rest.map(({ id }) => Number(id))).toEqual([6, 7, 8, 9, 10]);
    const { response } = JSON.parse(rest.at(-1)!.data) as { response: object };
    expect(response).toEqual(await (await tenant.get(`/v1/responses/${id}`)).json());
  });

  test("can be continued after every event, also for a job of another protocol that two workers ran", async () => {
    const { id } = await tenant.submit({ logprobs: 0 });
    const { attempt } = await claim(id);
    await appendText(id, attempt, "a");
    const early = readEvents(await tenant.get(`/v1/responses/${id}?stream=true`));
    const second = await claim(id);
    for (const piece of ["", "b", "c"]) await appendText(id, second.attempt, piece);
    await store.finish(id, second.attempt, "succeeded", "abc", success);
    const all = await early;
    expect(all.map(({ type }) => type)).toEqual([
      ...OPEN,
      ...Array(3).fill("response.output_text.delta"),
      ...CLOSE,
      "response.completed",
    ]);
    expect(all.map((event) => event.sequence_number)).toEqual([...all.keys()]);
    for (const { sequence_number: after } of all) {
      const path = `/v1/responses/${id}?stream=true&starting_after=${after}`;
      expect(await readEvents(await tenant.get(path))).toEqual(all.slice(after + 1));
    }
    const last = all.length - 1;
    const header = { "last-event-id": String(last - 1) };
    const rest = await tenant.get(`/v1/responses/${id}?stream=true`, header);
    expect(await readEvents(rest)).toEqual(all.slice(-1));
    const done = { "last-event-id": String(last) };
    expect((await tenant.get(`/v1/responses/${id}?stream=true`, done)).status).toBe(204);
    const beyond = await tenant.get(`/v1/responses/${id}?stream=true&starting_after=${last + 1}`);
    expect(await errorOf(beyond)).toMatchObject({ code: "events_lost", param: "starting_after" });
  });

  test("ends with an error that both major versions of the client throw if the log cannot be read", async () => {
    for (const major of [OpenAI, OpenAI6]) {
      const stream = await openaiOf(tenant, major).responses.create({ ...ask, stream: true });
      const id = await tenant.queuedJob();
      const reading = (async () => {
        for await (const event of stream) {
          // An entry that cannot be parsed: a failure that is easy to cause in a test.
          if (event.type === "response.queued") await breakLog(id);
        }
      })();
      await expect(reading).rejects.toMatchObject({ code: "internal" });
      await redis.del(logKey(id));
      await store.delete(id);
    }
  });
});

/** Adds an event that cannot be parsed to the job's log. The reader gets it with its next poll. */
async function breakLog(id: string): Promise<void> {
  await redis.xadd(logKey(id), "2-0", "type", "tokens", "data", "{");
}

const failure: Outcome = {
  finish_reason: null,
  usage,
  error: { code: "worker_lost", message: "The worker was lost" },
};

describe.each([
  ["7", OpenAI],
  ["6", OpenAI6],
] as const)("the stream helper of version %s of the client", (_, major) => {
  test.each([
    ["completed", "succeeded", success, "completed", null],
    [
      "cut off at the token limit",
      "succeeded",
      { ...success, finish_reason: "length" },
      "incomplete",
      null,
    ],
    ["cancelled", "cancelled", { ...success, finish_reason: null }, "cancelled", null],
    ["failed", "failed", failure, "failed", failure.error],
  ] as const)("assembles a response that is %s", async (_, state, outcome, status, error) => {
    const client = openaiOf(tenant, major);
    const stream = client.responses.stream(ask);
    const id = await tenant.queuedJob();
    const { attempt } = await claim(id);
    for (const piece of ["Hel", "lo"]) await appendText(id, attempt, piece);
    await store.finish(id, attempt, state, "Hello", outcome);
    const final = await stream.finalResponse();
    expect(final).toMatchObject({ status, error, output_text: "Hello" });
    expect(final.output).toMatchObject([
      { status: status === "completed" ? "completed" : "incomplete", content: [{ text: "Hello" }] },
    ]);
    const read = await client.responses.retrieve(final.id);
    expect(read).toMatchObject({ status, error, output_text: "Hello" });
  });

  test("continues a stream that was interrupted, and ends when a queued job is cancelled", async () => {
    const client = openaiOf(tenant, major);
    const interrupted = await client.responses.create({ ...ask, background: true, stream: true });
    let cursor = -1;
    for await (const event of interrupted) {
      cursor = event.sequence_number;
      if (event.type === "response.queued") break;
    }
    const id = await tenant.queuedJob();
    const rest = await client.responses.retrieve(id, { stream: true, starting_after: cursor });
    expect(await client.responses.cancel(id)).toMatchObject({ status: "cancelled", output: [] });
    const types = (await Array.fromAsync(rest)).map(({ type }) => type);
    expect(types).toEqual(["response.incomplete"]);
  });
});

test("log-probabilities are in the deltas and in the complete response if they are requested", async () => {
  const stream = openaiOf(tenant).responses.stream({
    ...ask,
    include: ["message.output_text.logprobs"],
    top_logprobs: 1,
  });
  const id = await tenant.queuedJob();
  expect((await store.record(id))?.generation.logprobs).toBe(1);
  const { attempt } = await claim(id);
  const top = [{ id: 2, token: " a", logprob: -0.25 }];
  const logprobs = [{ id: 1, token: "é", logprob: -0.5, top }];
  await store.appendTokens(id, attempt, 0, { ids: [1], text: "é", logprobs });
  await store.finish(id, attempt, "succeeded", "é", success);
  const expected = [
    {
      token: "é",
      logprob: -0.5,
      bytes: [0xc3, 0xa9],
      top_logprobs: [{ token: " a", logprob: -0.25, bytes: [0x20, 0x61] }],
    },
  ];
  const final = await stream.finalResponse();
  expect(final.top_logprobs).toBe(1);
  expect(final.output).toMatchObject([{ content: [{ text: "é", logprobs: expected }] }]);
  const [, , , , , delta] = await readEvents(await tenant.get(`/v1/responses/${id}?stream=true`));
  expect(delta).toMatchObject({ type: "response.output_text.delta", logprobs: expected });
});
