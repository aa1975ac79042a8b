/** What a response goes on from: items, instructions and earlier responses; and what is refused of it. */
import type OpenAI from "openai";
import { beforeEach, describe, expect, test } from "vitest";
import { LIMITS } from "../../shared/limits.ts";
import { card, errorOf, newTenant, play, openaiOf, store, type Client } from "./harness.ts";

const ask = { model: card.id, input: "Hi" };

let tenant: Client;
let openai: OpenAI;
beforeEach(async () => {
  tenant = await newTenant();
  openai = openaiOf(tenant);
});

/** A response that a worker gives, and the messages that it was given. */
async function responded(
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

test("items are messages, also those that were an output", async () => {
  const { response } = await responded({});
  const { messages } = await responded({
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
  test("goes on from a response, without its instructions", async () => {
    const first = await responded({ instructions: "Be loud" });
    const second = await responded({
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
    const third = await responded({ input: "End", previous_response_id: second.response.id });
    expect(third.messages.map(([role]) => role)).toEqual([
      "user",
      "assistant",
      "user",
      "assistant",
      "user",
    ]);
    expect(third.response.instructions).toBeNull();
  });

  test("goes on from a chat, by any of its names", async () => {
    const messages = [{ role: "user", content: "Hi" }];
    const { id } = await tenant.submit({ prompt: undefined, messages });
    await play(id, ["Hello"]);
    for (const name of [id, `chatcmpl-${id}`, id.replace("job_", "resp_")]) {
      const next = await responded({ input: "More", previous_response_id: name });
      expect(next.messages).toHaveLength(3);
    }
  });

  test("goes on from nothing that has not ended, was no conversation, or is another's", async () => {
    const refused = async (previous_response_id: string) =>
      errorOf(await tenant.post("/v1/responses", { ...ask, previous_response_id }));
    const param = "previous_response_id";
    const { id: plain } = await tenant.submit();
    expect((await refused(plain)).message).toMatch("has not ended yet");
    await play(plain, ["x"]);
    expect(await refused(plain)).toMatchObject({ status: 400, param });
    const stranger = await newTenant();
    const { id } = await stranger.submit();
    expect(await refused(id)).toMatchObject({ status: 404, param });
    expect(await refused("resp_none")).toMatchObject({ status: 404, param });
  });

  test("has an end", async () => {
    const half = "x".repeat(LIMITS.promptCharsMax);
    const { response } = await responded({ input: half }, "");
    const fields = { ...ask, input: half, previous_response_id: response.id };
    await responded(fields, "");
    const { response: full } = await responded(fields, "");
    const error = await errorOf(
      await tenant.post("/v1/responses", { ...ask, previous_response_id: full.id }),
    );
    expect(error).toMatchObject({ status: 400, param: "previous_response_id" });
    expect(error.message).toMatch(`at most ${LIMITS.messagesMax} messages`);
  });
});

describe("input items", () => {
  test("are all that a response went on from, newest first, in pages", async () => {
    const first = await responded({ instructions: "Not an item" });
    const { response } = await responded({
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

  test("of a plain prompt are its text; token ids have none", async () => {
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
  [{ tools: [{ type: "function", name: "f" }] }, "tools.0"],
  [{ reasoning: { effort: "low" } }, "reasoning"],
  [{ conversation: "conv_1" }, "conversation"],
  [{ truncation: "auto" }, "truncation"],
  [{ include: ["reasoning.encrypted_content"] }, "include.0"],
  [{ text: { format: { type: "xml" } } }, "text.format.type"],
  [
    { text: { format: { type: "json_schema", name: "n", schema: { not: {} } } } },
    "text.format.schema.not",
  ],
  [{ stream_options: { include_obfuscation: true } }, "stream_options.include_obfuscation"],
  [{ max_tokens: 3 }, "max_tokens"],
  [{ input: [{ type: "function_call_output", call_id: "c", output: "" }] }, "input.0.type"],
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

test("a format reaches the job, and the response says it", async () => {
  const format = {
    type: "json_schema" as const,
    name: "answer",
    schema: { type: "object", properties: { a: { type: "integer" } }, required: ["a"] },
    strict: true,
  };
  const { response } = await responded({ text: { format } }, '{"a":1}');
  expect(response.text).toEqual({ format: { ...format, description: null } });
  const { generation } = (await store.record(response.id.replace("resp_", "job_")))!;
  expect(generation.grammar).toHaveProperty("rules");
  const { type, ...json_schema } = format;
  const { id } = await tenant.submit({ response_format: { type, json_schema } });
  expect((await openai.responses.retrieve(id)).text).toEqual(response.text);
});

test("what clients send empty is not held against them", async () => {
  const neutral = {
    tools: [],
    tool_choice: "auto",
    parallel_tool_calls: true,
    reasoning: null,
    text: { format: { type: "text" } },
    truncation: "disabled",
    service_tier: "auto",
    include: [],
    top_logprobs: 0,
  };
  const { response } = await responded(
    neutral as Partial<OpenAI.Responses.ResponseCreateParamsNonStreaming>,
  );
  expect(response.status).toBe("completed");
});
