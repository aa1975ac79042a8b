/** The input of responses: items, instructions and earlier responses, and the inputs that are refused. */
import type OpenAI from "openai";
import { beforeEach, describe, expect, test } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import { card, errorOf, newTenant, play, openaiOf, store, type Client } from "../harness.ts";

const ask = { model: card.id, input: "Hi" };

let tenant: Client;
let openai: OpenAI;
beforeEach(async () => {
  tenant = await newTenant();
  openai = openaiOf(tenant);
});

/** Creates a response and plays its worker. @returns the response, and the messages that the worker received */
async function respond(
  fields: Partial<OpenAI.Responses.ResponseCreateParamsNonStreaming>,
  text = "Hello",
) {
  const [response, messages] = await Promise.all([
    openai.responses.create({ ...ask, ...fields }),
    tenant.queuedJob().then(async (id) => {
      await play(id, [text]);
      const { input } = (await store.record(id))!.generation;
      return input.kind === "chat"
        ? input.messages.map(({ role, content }) => [role, content])
        : [];
    }),
  ]);
  return { response, messages };
}

const textOf = (items: OpenAI.Responses.ResponseItem[]) =>
  items.map((item) =>
    (item.type === "message" ? item.content : []).map((part) => Object.values(part)),
  );

test("items are messages, and an earlier output can be one of them", async () => {
  const { response } = await respond({});
  const { messages } = await respond({
    input: [
      { role: "developer", content: "Be kind" },
      { type: "message", role: "user", content: [{ type: "input_text", text: "A" }] },
      ...response.output,
      { role: "user", content: "B" },
    ] as OpenAI.Responses.ResponseInput,
  });
  expect(messages).toEqual([
    ["developer", "Be kind"],
    ["user", "A"],
    ["assistant", "Hello"],
    ["user", "B"],
  ]);
});

describe("a conversation", () => {
  test("continues a response, without its instructions", async () => {
    const first = await respond({ instructions: "Be loud" });
    const second = await respond({
      input: "More",
      instructions: "Be quiet",
      previous_response_id: first.response.id,
    });
    expect(second.messages).toEqual([
      ["system", "Be quiet"],
      ["user", "Hi"],
      ["assistant", "Hello"],
      ["user", "More"],
    ]);
    expect(second.response).toMatchObject({
      previous_response_id: first.response.id,
      instructions: "Be quiet",
    });
    const third = await respond({ input: "End", previous_response_id: second.response.id });
    expect(third.messages.map(([role]) => role)).toEqual([
      "user",
      "assistant",
      "user",
      "assistant",
      "user",
    ]);
    expect(third.response.instructions).toBeNull();
  });

  test("continues a chat, by any of its ids", async () => {
    const messages = [{ role: "user", content: "Hi" }];
    const { id } = await tenant.submit({ prompt: undefined, messages });
    await play(id, ["Hello"]);
    for (const name of [id, `chatcmpl-${id}`, id.replace("job_", "resp_")]) {
      const next = await respond({ input: "More", previous_response_id: name });
      expect(next.messages).toHaveLength(3);
    }
  });

  test("does not continue a job that has not ended, has no conversation, or belongs to another tenant", async () => {
    const errorFor = async (previous_response_id: string) =>
      errorOf(await tenant.post("/v1/responses", { ...ask, previous_response_id }));
    const param = "previous_response_id";
    const { id: plain } = await tenant.submit();
    expect((await errorFor(plain)).message).toMatch("has not ended yet");
    await play(plain, ["x"]);
    expect(await errorFor(plain)).toMatchObject({ status: 400, param });
    const stranger = await newTenant();
    const { id } = await stranger.submit();
    expect(await errorFor(id)).toMatchObject({ status: 404, param });
    expect(await errorFor("resp_none")).toMatchObject({ status: 404, param });
  });

  test("needs a key that may read the earlier response, by whatever field it is named", async () => {
    const { response } = await respond({});
    const writer = await newTenant({ scopes: ["jobs:write"] }, tenant.tenant);
    const item = { type: "item_reference", id: response.output[0]!.id };
    const requests = [
      ["previous_response_id", { previous_response_id: response.id }],
      ["input.0.id", { input: [item] }],
    ] as const;
    for (const [param, fields] of requests) {
      const error = await errorOf(await writer.post("/v1/responses", { ...ask, ...fields }));
      expect(error).toMatchObject({ status: 403, code: "permission_denied", param });
    }
  });

  test("has a limit of messages", async () => {
    const half = "x".repeat(LIMITS.promptCharsMax);
    const { response } = await respond({ input: half }, "");
    const fields = { ...ask, input: half, previous_response_id: response.id };
    await respond(fields, "");
    const { response: full } = await respond(fields, "");
    const error = await errorOf(
      await tenant.post("/v1/responses", { ...ask, previous_response_id: full.id }),
    );
    expect(error).toMatchObject({ status: 400, param: "previous_response_id" });
    expect(error.message).toMatch(`at most ${LIMITS.messagesMax} messages`);
  });
});

describe("input items", () => {
  test("are all messages before the response, the newest first, in pages", async () => {
    const first = await respond({ instructions: "Not an item" });
    const { response } = await respond({
      input: "More",
      previous_response_id: first.response.id,
    });
    const list = async (query: OpenAI.Responses.InputItemListParams) =>
      (await openai.responses.inputItems.list(response.id, query)).data;
    expect(textOf(await list({}))).toEqual([
      [["input_text", "More"]],
      [["output_text", "Hello", [], []]],
      [["input_text", "Hi"]],
    ]);
    const [oldest] = await list({ order: "asc", limit: 1 });
    expect(textOf(await list({ order: "asc", limit: 1, after: oldest!.id }))).toEqual([
      [["output_text", "Hello", [], []]],
    ]);
    const all = await Array.fromAsync(openai.responses.inputItems.list(response.id, { limit: 1 }));
    expect(all).toHaveLength(3);
  });

  test("of a text prompt are its text; a prompt of token ids has none", async () => {
    const { id } = await tenant.submit({ prompt: "Once" });
    expect(textOf((await openai.responses.inputItems.list(id)).data)).toEqual([
      [["input_text", "Once"]],
    ]);
    const { id: tokens } = await tenant.submit({ prompt: [1, 2] });
    expect((await openai.responses.inputItems.list(tokens)).data).toEqual([]);
  });

  test.each(["limit=0", "limit=101", "limit=x", "order=up"])("refuse ?%s", async (query) => {
    const { id } = await tenant.submit();
    const error = await errorOf(await tenant.get(`/v1/responses/${id}/input_items?${query}`));
    expect(error).toMatchObject({ status: 400, param: query.split("=")[0] });
  });
});

const unsupported: [fields: object, param: string][] = [
  [{ reasoning: { effort: "low" } }, "reasoning"],
  [{ conversation: "conv_1" }, "conversation"],
  [{ prompt: { id: "pmpt_1" } }, "prompt"],
  [{ text: { format: { type: "xml" } } }, "text.format.type"],
  [
    { text: { format: { type: "json_schema", name: "n", schema: { format: "regex" } } } },
    "text.format.schema.format",
  ],
  [{ stream_options: { continuous_usage_stats: true } }, "stream_options.continuous_usage_stats"],
  [{ max_tokens: 3 }, "max_tokens"],
  [
    { input: [{ role: "user", content: [{ type: "input_image", image_url: "u" }] }] },
    "input.0.content.0.type",
  ],
];

test.each(unsupported)("%j is refused by name", async (fields, param) => {
  const error = await errorOf(await tenant.post("/v1/responses", { ...ask, ...fields }));
  expect(error).toMatchObject({ status: 400, code: "unsupported_parameter", param });
});

test.each<[object, string]>([
  [{ input: undefined }, "input"],
  [{ input: [] }, "input"],
  [{ input: [{ role: "tool", content: "x" }] }, "input.0.role"],
  [{ input: [{ type: "reasoning" }] }, "input"],
  [{ top_logprobs: 3 }, "top_logprobs"],
  [{ max_output_tokens: 0 }, "max_output_tokens"],
  [
    {
      max_output_tokens: LIMITS.maxTokensMax,
      include: ["message.output_text.logprobs"],
      top_logprobs: 20,
    },
    "max_output_tokens",
  ],
])("%j is invalid, and %s is named", async (fields, param) => {
  const error = await errorOf(await tenant.post("/v1/responses", { ...ask, ...fields }));
  expect(error).toMatchObject({ status: 400, code: "invalid_request", param });
});

test("the job gets the output format, and the response shows it", async () => {
  const format = {
    type: "json_schema" as const,
    name: "answer",
    schema: { type: "object", properties: { a: { type: "integer" } }, required: ["a"] },
    strict: true,
  };
  const { response } = await respond({ text: { format } }, '{"a":1}');
  expect(response.text).toEqual({ format: { ...format, description: null } });
  const { generation } = (await store.record(response.id.replace("resp_", "job_")))!;
  expect(generation.grammar).toHaveProperty("rules");
  const { type, ...json_schema } = format;
  const { id } = await tenant.submit({ response_format: { type, json_schema } });
  expect((await openai.responses.retrieve(id)).text).toEqual(response.text);
});

test("an output format that does not say whether it is strict is shown as not strict", async () => {
  const format = { type: "json_schema" as const, name: "answer", schema: { type: "object" } };
  const { response } = await respond({ text: { format } }, "{}");
  expect(response.text).toEqual({ format: { ...format, description: null, strict: false } });
});

test("empty fields that clients send are accepted", async () => {
  const neutral = {
    tools: [],
    text: { format: { type: "text" } },
    include: ["reasoning.encrypted_content"],
    top_logprobs: 0,
  };
  const { response } = await respond(
    neutral as Partial<OpenAI.Responses.ResponseCreateParamsNonStreaming>,
  );
  expect(response.status).toBe("completed");
});
