/** Invalid requests are refused. The error names the field and the limit, and does not repeat the caller's text. */
import { beforeAll, describe, expect, test } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import { card, errorOf, newTenant, store, type Client } from "../harness.ts";

let client: Client;
beforeAll(async () => {
  client = await newTenant();
});

type Refusal = [fields: object, param: string, message: string | RegExp, code?: string];

const refusals: Refusal[] = [
  [{ temperature: 3 }, "temperature", "temperature must be at most 2, received 3"],
  [{ temperature: -0.1 }, "temperature", "temperature must be at least 0, received -0.1"],
  [{ temperature: "1" }, "temperature", "temperature must be a number, received a string"],
  [{ top_p: -0.1 }, "top_p", "top_p must be at least 0, received -0.1"],
  [{ top_k: 1.5 }, "top_k", "top_k must be an integer, received 1.5"],
  [{ min_p: 1.1 }, "min_p", "min_p must be at most 1, received 1.1"],
  [{ presence_penalty: 2.5 }, "presence_penalty", /at most 2, received 2.5$/],
  [{ frequency_penalty: -3 }, "frequency_penalty", /at least -2, received -3$/],
  [{ repetition_penalty: 0 }, "repetition_penalty", /at least 0.01, received 0$/],
  [{ max_tokens: 0 }, "max_tokens", "max_tokens must be at least 1, received 0"],
  [{ max_tokens: 40_000 }, "max_tokens", /at most 32768, received 40000$/],
  [{ seed: 2 ** 65 }, "seed", /^seed must be at most 18446744073709551616, received/],
  [{ model: "" }, "model", "model must not be empty"],
  [{ model: undefined }, "model", "model is required"],
  [{ model: 7 }, "model", "model must be a string, received a number"],
  [{ model: "nobody" }, "model", /^No worker serves/, "model_not_found"],
  [{ steering: { alpha: 5 } }, "steering.alpha", "steering.alpha must be at most 4, received 5"],
  [
    { steering: { alpha: 3 } },
    "steering.alpha",
    "steering.alpha must be from 0 to 2 with this model, received 3",
  ],
  [{ steering: { alpha: -5 } }, "steering.alpha", /must be at least -4, received -5$/],
  [{ steering: { trace: 1 } }, "steering.trace", /must be true or false, received a number/],
  [
    { steering: { alpha: 1, schedule: [[0, 1]] } },
    "steering.schedule",
    "steering.schedule must be absent if alpha is set",
  ],
  [{ steering: { schedule: [] } }, "steering.schedule", "steering.schedule must not be empty"],
  [
    { steering: { schedule: Array.from({ length: 33 }, (_, i) => [i, 1]) } },
    "steering.schedule",
    /must have at most 32 items, received 33$/,
  ],
  [
    {
      steering: {
        schedule: [
          [3, 1],
          [3, 0],
        ],
      },
    },
    "steering.schedule",
    "steering.schedule must be knots with rising positions",
  ],
  [{ steering: { schedule: [[0]] } }, "steering.schedule.0.1", "steering.schedule.0.1 is required"],
  [
    { steering: { schedule: [1] } },
    "steering.schedule.0",
    "steering.schedule.0 must be a pair, received a number",
  ],
  [{ steering: { schedule: [[-1, 1]] } }, "steering.schedule.0.0", /at least 0, received -1$/],
  [{ steering: { schedule: [[0, 5]] } }, "steering.schedule.0.1", /at most 4, received 5$/],
  [
    {
      steering: {
        schedule: [
          [0, 2],
          [9, 3],
        ],
      },
    },
    "steering.schedule.1.1",
    "steering.schedule.1.1 must be from 0 to 2 with this model, received 3",
  ],
  [{ steering: { guards: { kl_budget: 0 } } }, "steering.guards.kl_budget", /greater than 0/],
  [{ chat_template_kwargs: { tools: [] } }, "chat_template_kwargs", /the server sets these/],
  [{ steering: { guards: { kl_budget: 27 } } }, "steering.guards.kl_budget", /at most 26/],
  [{ steering: { base_error_max: 1.1 } }, "steering.base_error_max", /at most 1/],
  [{ steering: { gate: {} } }, "steering.gate", /min_entropy, max_margin or both/],
  [{ steering: { gate: { min_entropy: -1 } } }, "steering.gate.min_entropy", /at least 0/],
  [{ steering: { gate: { max_margin: 101 } } }, "steering.gate.max_margin", /at most 100/],
  [{ steering: { guards: { base_nucleus: 1.1 } } }, "steering.guards.base_nucleus", /at most 1,/],
  [{ steering: { guards: { fallback: 0 } } }, "steering.guards.fallback", /greater than 0/],
  [
    { steering: { guards: { entropy: 1 } } },
    "steering.guards.entropy",
    /is not a supported parameter$/,
    "unsupported_parameter",
  ],
  [{ logprobs: 21 }, "logprobs", "logprobs must be at most 20, received 21"],
  [{ logprobs: true }, "logprobs", "logprobs must be a number, received a boolean"],
  [
    { logprobs: 20, steering: { trace: true }, max_tokens: 32_768 },
    "max_tokens",
    /^max_tokens must be at most 9039 with these logprobs and trace, received 32768$/,
  ],
  [{ steering: 1 }, "steering", "steering must be an object, received a number"],
  [
    { steering: { beta: 1 } },
    "steering.beta",
    "steering.beta is not a supported parameter",
    "unsupported_parameter",
  ],
  [{ tools: [{}] }, "tools.0.type", "tools.0.type is required"],
  [{ logit_bias: { 5: 101 } }, "logit_bias.5", /at most 100, received 101/],
  [{ logit_bias: { x: 1 } }, "logit_bias.x", "logit_bias.x must be a token id"],
  [{ logit_bias: { 1000: 1 } }, "logit_bias.1000", /are below 1000, received 1000$/],
  [{ stop: [] as string[], metadata: { a: 1 } }, "metadata.a", /must be a string/],
  [{ stop: [""] }, "stop.0", /^stop must be a string or at most 16 strings/],
  [{ stop: 5 }, "stop", /^stop must be a string or at most 16 strings of 1 to 256 characters$/],
  [{ webhook: { url: "ftp://example.com" } }, "webhook.url", /must be an http or https URL/],
  [{ webhook: { url: "nonsense" } }, "webhook.url", "webhook.url must be a URL"],
  [{ webhook: {} }, "webhook.url", "webhook.url is required"],
  [{ deadline: 0 }, "deadline", "deadline must be at least 1, received 0"],
  [{ prompt: undefined }, "messages", /^Exactly one of messages and prompt must be set$/],
  [
    { messages: [{ role: "user", content: "x" }] },
    "messages",
    /^Exactly one of messages and prompt must be set$/,
  ],
  [{ prompt: [] }, "prompt", "prompt must not be empty"],
  [{ prompt: [1, -1] }, "prompt.1", /must be at least 0, received -1/],
  [{ prompt: ["a", "b"] }, "prompt.0", /^prompt must be a string or a non-empty array of token/],
  [{ prompt: [1, 1000] }, "prompt.1", /token ids of this model are below 1000, received 1000/],
  [{ prompt: Array(32).fill(1) }, "prompt", /has 32 tokens/, "context_length_exceeded"],
  [{ prompt: undefined, messages: [] }, "messages", "messages must not be empty"],
  [
    { prompt: undefined, messages: [{ role: "function", content: "x" }] },
    "messages.0.role",
    /^messages.0.role must be "system" \| "developer" \| "user" \| "assistant" \| "tool", received a string$/,
  ],
  [
    { prompt: undefined, messages: [{ role: "user" }] },
    "messages.0.content",
    "messages.0.content must be a string or an array of text parts",
  ],
  [
    { prompt: undefined, messages: [{ role: "user", content: [{ type: "image_url" }] }] },
    "messages.0.content.0.type",
    /^messages.0.content must be a string or an array of text parts \(.*type must be "text"/,
    "unsupported_parameter",
  ],
  [{ prompt: null }, "messages", "Exactly one of messages and prompt must be set"],
];

test.each(refusals)("%j is refused with the name of %s", async (fields, param, message, code) => {
  const reply = await client.post("/v1/jobs", { model: card.id, prompt: "Hello", ...fields });
  const error = await errorOf(reply);
  expect(error).toMatchObject({ param, code: code ?? "invalid_request" });
  expect(error.message).toMatch(message);
  expect(error.status).toBe(code === "model_not_found" ? 404 : 400);
  expect(reply.headers.get("x-should-retry")).toBe("false");
});

test.each<[object, string]>([
  [{ stream_options: { continuous_usage_stats: true } }, "stream_options.continuous_usage_stats"],
  [{ prompt: "x" }, "prompt"],
])("a chat with %j is refused as unsupported, naming %s", async (fields, param) => {
  const messages = [{ role: "user", content: "x" }];
  const reply = await client.post("/v1/chat/completions", { model: card.id, messages, ...fields });
  expect(await errorOf(reply)).toMatchObject({ status: 400, code: "unsupported_parameter", param });
});

test("a token id that is none is named with its prompt", async () => {
  const prompt = [[1], [1, 1000]];
  const reply = await client.post("/v1/completions", { model: card.id, prompt });
  const message = "prompt.1.1: token ids of this model are below 1000, received 1000";
  expect(await errorOf(reply)).toMatchObject({ status: 400, param: "prompt.1.1", message });
});

test.each([
  ["limit=0", "limit must be at least 1, received 0"],
  ["limit=1000", "limit must be at most 100, received 1000"],
  ["limit=all", "limit must be a whole number from 1 to 100"],
])("a page with %s is refused", async (query, message) => {
  const error = await errorOf(await client.get(`/v1/jobs?${query}`));
  expect(error).toMatchObject({ status: 400, param: "limit", message });
});

test.each<[object, string]>([
  [{ best_of: 2 }, "best_of"],
  [{ suffix: "x" }, "suffix"],
])("a completion with %j is refused as unsupported, naming %s", async (fields, param) => {
  const reply = await client.post("/v1/completions", { model: card.id, prompt: "x", ...fields });
  expect(await errorOf(reply)).toMatchObject({ status: 400, code: "unsupported_parameter", param });
});

test("a chat's top_logprobs need logprobs", async () => {
  const messages = [{ role: "user", content: "x" }];
  const chat = { model: card.id, messages, top_logprobs: 2 };
  const error = await errorOf(await client.post("/v1/chat/completions", chat));
  expect(error).toMatchObject({ status: 400, code: "invalid_request", param: "logprobs" });
  expect(error.message).toBe("logprobs must be true if top_logprobs is set");
});

test("a trace alone may be as long as any output", async () => {
  const steering = { trace: true };
  const { id } = await client.submit({ steering, max_tokens: LIMITS.maxTokensMax });
  expect((await store.record(id))?.generation).toMatchObject({ trace: true });
});

test("a long text of the caller is not repeated in the error", async () => {
  const secret = "s3cret".repeat(100_000);
  for (const fields of [{ prompt: secret }, { [secret]: 1 }, { user: secret }, { seed: secret }]) {
    const error = await errorOf(await client.post("/v1/jobs", { model: card.id, ...fields }));
    expect(error.status).toBe(400);
    expect(error.message.length).toBeLessThan(200);
    expect(error.param?.length ?? 0).toBeLessThan(70);
  }
});

describe("the body", () => {
  test("must be an object", async () => {
    expect(await errorOf(await client.post("/v1/jobs", '"text"'))).toMatchObject({
      code: "invalid_request",
      message: "The body must be an object, received a string",
      param: null,
    });
  });

  test.each(["", "{", '{"model": "demo",}', "\u0000"])("must be JSON, not %j", async (body) => {
    expect(await errorOf(await client.post("/v1/jobs", body))).toMatchObject({
      status: 400,
      message: "The body is not valid JSON",
    });
  });

  test("must be UTF-8", async () => {
    const reply = await client.post("/v1/jobs", new Uint8Array([0x22, 0xff, 0x22]));
    expect(await errorOf(reply)).toMatchObject({ status: 400, code: "invalid_request" });
  });

  test("need not be declared as JSON: `curl -d` declares a form", async () => {
    const type = { "content-type": "application/x-www-form-urlencoded" };
    const reply = await client.post("/v1/jobs", '{"model":', type);
    expect(await errorOf(reply)).toMatchObject({
      status: 400,
      message: "The body is not valid JSON",
    });
  });

  test.each(["gzip", "br, gzip"])("must not be compressed (%s)", async (encoding) => {
    const reply = await client.post("/v1/jobs", "{}", { "content-encoding": encoding });
    const error = await errorOf(reply);
    expect(error).toMatchObject({ status: 415, code: "unsupported_media_type" });
    expect(error.message).toContain(encoding);
  });

  test("is refused by its length before it is read", async () => {
    const reply = await client.post("/v1/jobs", " ".repeat(LIMITS.bodyBytesMax + 1));
    expect(await errorOf(reply)).toMatchObject({ status: 413, code: "payload_too_large" });
  });

  test("is read only up to the limit if its length is not given", async () => {
    let sent = 0;
    const endless = new ReadableStream<Uint8Array>({
      pull(controller) {
        sent += 65_536;
        controller.enqueue(new Uint8Array(65_536).fill(32));
      },
    });
    const reply = await client.post("/v1/jobs", endless);
    expect(await errorOf(reply)).toMatchObject({ status: 413, code: "payload_too_large" });
    expect(sent).toBeLessThan(2 * LIMITS.bodyBytesMax);
  });
});

describe("a field that is absent", () => {
  test("has the default of the API or of the ensemble", async () => {
    const job = await client.submit();
    expect((await store.record(job.id))?.generation).toEqual({
      model: card.id,
      input: { kind: "text", text: "Hello" },
      maxTokens: LIMITS.maxTokensDefault,
      temperature: 1,
      topP: 1,
      topK: 0,
      minP: 0,
      repetitionPenalty: 1,
      presencePenalty: 0,
      frequencyPenalty: 0,
      logitBias: [],
      stop: [],
      seed: job.seed,
      alpha: card.alphaDefault,
    });
    expect(Number.isSafeInteger(job.seed)).toBe(true);
    expect((await client.submit()).seed).not.toBe(job.seed);
  });

  test("may also be null; zero is a value", async () => {
    const job = await client.submit({ temperature: null, seed: null, steering: { alpha: 0 } });
    const generation = (await store.record(job.id))?.generation;
    expect(generation).toMatchObject({ temperature: 1, alpha: 0 });
  });
});

test("the queued job has the fields of the request unchanged", async () => {
  const messages = [
    { role: "system", content: "Be brief" },
    {
      role: "user",
      content: [
        { type: "text", text: "a" },
        { type: "text", text: "b" },
      ],
    },
  ];
  const job = await client.submit({
    prompt: undefined,
    messages,
    max_tokens: 7,
    temperature: 0,
    logit_bias: { 5: -100, 999: 2 },
    stop: "END",
    seed: -2,
    steering: { alpha: 2 },
    deadline: 60,
    metadata: { a: "b" },
  });
  const record = await store.record(job.id);
  expect(record?.generation).toMatchObject({
    input: {
      kind: "chat",
      messages: [
        { role: "system", content: "Be brief" },
        { role: "user", content: "a\nb" },
      ],
    },
    maxTokens: 7,
    temperature: 0,
    logitBias: [
      [5, -100],
      [999, 2],
    ],
    stop: ["END"],
    seed: 2 ** 53 - 2,
    alpha: 2,
  });
  expect(record!.deadlineMs - record!.createdAtMs).toBe(60_000);
  expect(record?.metadata).toEqual({ a: "b" });
});
