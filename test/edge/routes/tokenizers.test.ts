/** Tokenizers over HTTP: what a worker is asked, and what becomes of its answer. */
import type Anthropic from "@anthropic-ai/sdk";
import { PermissionDeniedError } from "@anthropic-ai/sdk";
import { beforeEach, describe, expect, test } from "vitest";
import { MODELS_KEY } from "../../../shared/redis/keys.ts";
import { sendHeartbeat } from "../../../shared/workers/registry.ts";
import {
  answerTokenizerRequest,
  takeTokenizerRequest,
  TOKENIZER_PENDING_MAX,
  type TokenizerAnswer,
} from "../../../shared/workers/tokenizer-requests.ts";
import { anthropicOf, card, Client, errorOf, newTenant, redis } from "../harness.ts";

const model = { ...card, id: "tokens", base: "tokens-base" };
const throughput = {
  slots: 1,
  busy: 1,
  tokensPerSecond: null,
  tokensMean: null,
  costShare: null,
  tokensVariation: null,
};

let tenant: Client;
beforeEach(async () => {
  tenant = await newTenant({ limits: { models: [model.id] } });
  await sendHeartbeat(redis, "w", { version: "1", throughput, models: [model] }, [model]);
});

/** Plays the worker: answers the next request. @returns its question */
async function answer(with_: TokenizerAnswer) {
  for (;;) {
    const request = await takeTokenizerRequest(redis, model.id);
    if (request !== null && "question" in request) {
      await answerTokenizerRequest(redis, request, with_);
      return request.question;
    }
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test("a text is tokenized, by the only model that the key may use if none is named", async () => {
  const [reply, question] = await Promise.all([
    tenant.post("/tokenize", { prompt: "a b", add_special_tokens: false, return_token_strs: true }),
    answer({ kind: "encode", ids: [7, 8], texts: ["a", " b"] }),
  ]);
  expect(await reply.json()).toEqual({
    count: 2,
    max_model_len: card.contextTokens,
    tokens: [7, 8],
    token_strs: ["a", " b"],
  });
  expect(question).toEqual({
    kind: "encode",
    input: { kind: "text", text: "a b" },
    addSpecialTokens: false,
    withTexts: true,
  });
});

test("a conversation is tokenized, and the input of a response counted", async () => {
  const messages = [{ role: "user", content: "a" }];
  const ask = async (path: string, body: object) => {
    const [reply, question] = await Promise.all([
      tenant.post(path, { model: model.id, ...body }),
      answer({ kind: "encode", ids: [1, 2, 3], texts: null }),
    ]);
    expect(question).toMatchObject({ input: { kind: "chat", messages } });
    return reply.json();
  };
  expect(await ask("/tokenize", { messages })).toMatchObject({ count: 3, token_strs: null });
  expect(await ask("/v1/responses/input_tokens", { input: "a" })).toEqual({
    object: "response.input_tokens",
    input_tokens: 3,
  });
});

test("the tokens of a message are counted for Anthropic's client, with its system message and functions", async () => {
  const anthropic = anthropicOf(tenant);
  const input_schema = { type: "object" as const, properties: { city: { type: "string" } } };
  const request: Anthropic.MessageCountTokensParams = {
    model: model.id,
    system: "Be brief",
    messages: [{ role: "user", content: "a" }],
    tools: [{ name: "get_weather", description: "The weather.", input_schema }],
  };
  const [counted, question] = await Promise.all([
    anthropic.messages.countTokens(request),
    answer({ kind: "encode", ids: [1, 2, 3], texts: null }),
  ]);
  expect(counted).toEqual({ input_tokens: 3 });
  const functions = [
    { name: "get_weather", description: "The weather.", parameters: input_schema },
  ];
  expect(question).toMatchObject({
    input: {
      kind: "chat",
      messages: [
        { role: "system", content: "Be brief" },
        { role: "user", content: "a" },
      ],
      tools: functions,
    },
  });
  const tools = [{ type: "function", ...functions[0] }];
  const [, same] = await Promise.all([
    tenant.post("/v1/responses/input_tokens", {
      model: model.id,
      instructions: "Be brief",
      input: "a",
      tools,
    }),
    answer({ kind: "encode", ids: [1, 2, 3], texts: null }),
  ]);
  expect(same).toEqual(question);
  const refused = anthropic.messages.countTokens({ ...request, model: "unknown" });
  await expect(refused).rejects.toThrow(PermissionDeniedError);
  const named = anthropic.messages.countTokens({
    ...request,
    tool_choice: { type: "tool", name: "other" },
  });
  await expect(named).rejects.toThrow(/tool_choice names a function that is not in tools/);
});

test("ids become text, and the configuration is read", async () => {
  const [text] = await Promise.all([
    tenant.post("/detokenize", { tokens: [1, 2] }),
    answer({ kind: "decode", text: "ab" }),
  ]);
  expect(await text.json()).toEqual({ prompt: "ab" });
  const info = { tokenizer_class: "Tiny", eos_token: "<e>", add_bos_token: true };
  const [reply] = await Promise.all([
    tenant.get("/tokenizer_info"),
    answer({ kind: "info", info }),
  ]);
  expect(await reply.json()).toEqual({ bos_token: null, chat_template: null, ...info });
});

test.each([
  ["/v1/responses/input_tokens", { input: "a", steering: { alpha: 3 } }, "steering.alpha"],
  [
    "/v1/responses/input_tokens",
    {
      input: "a",
      text: { format: { type: "json_schema", name: "n", schema: { type: "nothing" } } },
    },
    "text.format.schema.type",
  ],
  [
    "/v1/messages/count_tokens",
    { messages: [{ role: "user", content: "a" }], steering: { pairs: [{ model: "unknown" }] } },
    "steering.pairs.0.model",
  ],
])("%s checks a request as the route that it counts for: %j", async (path, fields, param) => {
  const reply = await tenant.post(path, { model: model.id, ...fields });
  expect(reply.status).toBeGreaterThanOrEqual(400);
  expect((await reply.json<{ error: object }>()).error).toMatchObject({ param });
});

test.each([
  [{ tokens: "a" }, "tokens", "tokens must be an array, received a string"],
  [{ tokens: [1, -1] }, "tokens.1", "tokens.1 must be at least 0, received -1"],
  [{ tokens: [1, 0.5] }, "tokens.1", "tokens.1 must be an integer, received 0.5"],
])("wrong ids %j are named", async (fields, param, message) => {
  const error = await errorOf(await tenant.post("/detokenize", fields));
  expect(error).toMatchObject({ status: 400, param, message });
});

describe("an error", () => {
  test("of the worker is the reply", async () => {
    const error = {
      code: "context_length_exceeded",
      message: "too long",
      param: "prompt",
    } as const;
    const [reply] = await Promise.all([
      tenant.post("/tokenize", { prompt: "a" }),
      answer({ kind: "error", ...error }),
    ]);
    expect(await errorOf(reply)).toMatchObject({ status: 400, ...error });
  });

  test(
    "says that no worker serves the model, or that none answers",
    { timeout: 20_000 },
    async () => {
      const lost = await newTenant();
      await redis.hset(MODELS_KEY, "lost", JSON.stringify({ ...card, id: "lost" }));
      const reply = await lost.post("/tokenize", { model: "lost", prompt: "a" });
      expect(await errorOf(reply)).toMatchObject({ status: 503, code: "worker_unavailable" });
      const silent = await tenant.post("/tokenize", { model: model.id, prompt: "a" });
      expect(await errorOf(silent)).toMatchObject({ status: 503, code: "worker_unavailable" });
      expect(silent.headers.get("retry-after")).not.toBeNull();
    },
  );

  test("names the field", async () => {
    const refuse = async (body: object) => errorOf(await tenant.post("/tokenize", body));
    expect(await refuse({})).toMatchObject({ param: "prompt" });
    expect(await refuse({ prompt: "a", model: "unknown" })).toMatchObject({ param: "model" });
    const anyModel = await newTenant();
    const reply = await anyModel.post("/tokenize", { prompt: "a" });
    expect(await errorOf(reply)).toMatchObject({ status: 400, param: "model" });
  });

  test("is a limit of the API key, or of the requests that wait at once", async () => {
    const limited = await newTenant({ limits: { requests_per_minute: 1, models: [model.id] } });
    await Promise.all([
      limited.post("/detokenize", { tokens: [1] }),
      answer({ kind: "decode", text: "" }),
    ]);
    expect(await errorOf(await limited.post("/detokenize", { tokens: [1] }))).toMatchObject({
      status: 429,
    });
    const waiting = Array.from({ length: TOKENIZER_PENDING_MAX + 1 }, () =>
      tenant.post("/detokenize", { tokens: [1] }),
    );
    const refused = await Promise.race(waiting);
    expect(refused.status).toBe(429);
    for (let i = 0; i < TOKENIZER_PENDING_MAX; i++) await answer({ kind: "decode", text: "" });
    await Promise.all(waiting);
  });
});

test("the routes need an API key, although they are not under /v1", async () => {
  const stranger = new Client("tt_x", "t", "k");
  for (const path of ["/tokenize", "/detokenize"]) {
    const reply = await stranger.post(path, {});
    expect(reply.status).toBe(401);
  }
});
