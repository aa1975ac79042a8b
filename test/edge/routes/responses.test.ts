/** The Responses API as its official client uses it: created, read, cancelled, deleted. */
import OpenAI, { NotFoundError } from "openai";
import { beforeEach, describe, expect, test } from "vitest";
import type { Outcome } from "../../../shared/api/job-events.ts";
import {
  card,
  claim,
  newTenant,
  appendText,
  errorOf,
  openaiOf,
  store,
  streamsAwaitTheirStart,
  success,
  usage,
  type Client,
} from "../harness.ts";

const ask = { model: card.id, input: "Hi" };

let tenant: Client;
let openai: OpenAI;
beforeEach(async () => {
  tenant = await newTenant();
  openai = openaiOf(tenant);
});

const failure: Outcome = {
  finish_reason: null,
  usage,
  error: { code: "worker_lost", message: "It was lost" },
};

test("a finished response has every member of the protocol", async () => {
  const [jobId, reply] = await Promise.all([
    tenant.playNext(["Hel", "lo"]),
    openai.responses.create({
      ...ask,
      instructions: "Be short",
      max_output_tokens: 9,
      temperature: 0.5,
      metadata: { a: "b" },
      safety_identifier: "s",
      seed: 3,
    } as OpenAI.Responses.ResponseCreateParamsNonStreaming),
  ]);
  expect(reply).toEqual({
    id: jobId.replace("job_", "resp_"),
    object: "response",
    created_at: expect.any(Number),
    completed_at: expect.any(Number),
    status: "completed",
    background: false,
    error: null,
    incomplete_details: null,
    instructions: "Be short",
    previous_response_id: null,
    model: card.id,
    output: [
      {
        id: jobId.replace("job_", "msg_"),
        type: "message",
        role: "assistant",
        status: "completed",
        content: [{ type: "output_text", text: "Hello", annotations: [], logprobs: [] }],
      },
    ],
    output_text: "Hello",
    usage: {
      input_tokens: usage.prompt_tokens,
      input_tokens_details: { cached_tokens: 0, cache_write_tokens: 0 },
      output_tokens: usage.completion_tokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: usage.total_tokens,
      speculation: usage.speculation,
      base_calls: usage.base_calls,
    },
    temperature: 0.5,
    top_p: 1,
    presence_penalty: 0,
    frequency_penalty: 0,
    top_logprobs: 0,
    max_output_tokens: 9,
    seed: 3,
    steering: { alpha: card.alphaDefault },
    store: true,
    metadata: { a: "b" },
    user: null,
    safety_identifier: "s",
    prompt_cache_key: null,
    text: { format: { type: "text" } },
    truncation: "disabled",
    tools: [],
    tool_choice: "auto",
    parallel_tool_calls: true,
    max_tool_calls: null,
    reasoning: null,
    service_tier: "default",
  });
  for (const time of [reply.created_at, reply.completed_at]) {
    expect(Number.isInteger(time)).toBe(true);
  }
  expect((await store.record(jobId))?.generation.input).toEqual({
    kind: "chat",
    messages: [
      { role: "system", content: "Be short" },
      { role: "user", content: "Hi" },
    ],
  });
  expect(await openai.responses.retrieve(reply.id)).toEqual(reply);
});

describe("in the background", () => {
  test("a background response can be read at once, shows its text so far, and can be cancelled", async () => {
    const { id, ...queued } = await openai.responses.create({ ...ask, background: true });
    expect(queued).toMatchObject({ status: "queued", background: true, output: [], usage: null });
    const jobId = await tenant.queuedJob();
    const { attempt } = await claim(jobId);
    await appendText(jobId, attempt, "Hel");
    expect(await openai.responses.retrieve(id)).toMatchObject({
      status: "in_progress",
      output: [{ status: "in_progress", content: [{ text: "Hel" }] }],
    });
    const cancelling = openai.responses.cancel(id);
    await expect.poll(async () => (await store.record(jobId))?.cancelRequested).toBe(true);
    await store.finish(jobId, attempt, "cancelled", "Hel", { ...success, finish_reason: null });
    const cancelled = await cancelling;
    expect(cancelled).toMatchObject({
      status: "cancelled",
      completed_at: null,
      output: [{ status: "incomplete", content: [{ text: "Hel" }] }],
    });
    expect(await openai.responses.cancel(id)).toEqual(cancelled);
  });

  test("deleting a response ends its streams", async () => {
    const { id } = await openai.responses.create({ ...ask, background: true });
    const stream = await openai.responses.retrieve(id, { stream: true });
    const events = stream[Symbol.asyncIterator]();
    await events.next();
    const reply = await tenant.send(`/v1/responses/${id}`, "DELETE");
    expect(await reply.json()).toEqual({ id, object: "response", deleted: true });
    const rest = await Array.fromAsync({ [Symbol.asyncIterator]: () => events });
    expect(rest.at(-1)).toMatchObject({ response: { status: "cancelled" } });
    await expect(openai.responses.retrieve(id)).rejects.toBeInstanceOf(NotFoundError);
    await expect(openai.responses.delete(id)).rejects.toBeInstanceOf(NotFoundError);
  });
});

test("a request that waits for a response that fails gets the error", async () => {
  const answer = openai.responses.create(ask);
  answer.catch(() => {});
  await tenant.playNext([], {
    ...failure,
    error: { code: "context_length_exceeded", message: "Long" },
  });
  await expect(answer).rejects.toMatchObject({ status: 400, code: "context_length_exceeded" });
});

test("a streamed response that is refused before its first token gets the status of the error; a reader gets the events", async () => {
  streamsAwaitTheirStart();
  const reply = tenant.post("/v1/responses", { ...ask, stream: true });
  const error = { code: "context_length_exceeded", message: "Long" } as const;
  const id = await tenant.playNext([], { ...failure, error });
  expect(await errorOf(await reply)).toMatchObject({ status: 400, param: "input", ...error });
  const events = await Array.fromAsync(
    await openai.responses.retrieve(id.replace(/^job_/, "resp_"), { stream: true }),
  );
  expect(events.at(-1)).toMatchObject({ type: "response.failed", response: { error } });
});

test("a request that waits for a response that is cancelled gets the cancelled response", async () => {
  const answer = openai.responses.create(ask);
  await openai.responses.cancel(await tenant.queuedJob());
  expect(await answer).toMatchObject({ status: "cancelled", output: [] });
});

test("a WebSocket is refused in words of its own, which name the way that works", async () => {
  const headers = { upgrade: "websocket", connection: "Upgrade", "sec-websocket-version": "13" };
  const reply = await tenant.get("/v1/responses", headers);
  expect(reply.headers.get("allow")).toBe("POST");
  const error = await errorOf(reply);
  expect(error).toMatchObject({ status: 405, code: "method_not_allowed" });
  expect(error.message).toMatch(
    /WebSockets are not supported: .* `stream: true`.* server-sent events/,
  );
});

test("another tenant's response is not found", async () => {
  const { id } = await (await newTenant()).submit();
  for (const [method, path] of [
    ["GET", ""],
    ["GET", "?stream=true"],
    ["GET", "/input_items"],
    ["POST", "/cancel"],
    ["DELETE", ""],
  ] as const) {
    expect((await tenant.send(`/v1/responses/${id}${path}`, method)).status).toBe(404);
  }
  expect((await store.record(id))?.state).toBe("queued");
});
