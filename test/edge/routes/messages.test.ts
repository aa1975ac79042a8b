/** `/v1/messages` with Anthropic's official client, unmodified. */
import type Anthropic from "@anthropic-ai/sdk";
import { BadRequestError } from "@anthropic-ai/sdk";
import { beforeEach, describe, expect, test } from "vitest";
import type { Outcome } from "../../../shared/api/job-events.ts";
import {
  anthropicOf,
  card,
  newTenant,
  play,
  store,
  success,
  usage,
  type Client,
} from "../harness.ts";

const messages: Anthropic.MessageParam[] = [{ role: "user", content: "Hi" }];
const ask = { model: card.id, max_tokens: 9, messages };

let tenant: Client;
let anthropic: Anthropic;
beforeEach(async () => {
  tenant = await newTenant();
  anthropic = anthropicOf(tenant);
});

async function answer(fields: object, pieces = ["Hel", "lo"], outcome?: Outcome) {
  const request = { ...ask, ...fields } as Anthropic.MessageCreateParamsNonStreaming;
  const [message, id] = await Promise.all([
    anthropic.messages.create(request),
    tenant.playNext(pieces, outcome),
  ]);
  return { message, id, generation: (await store.record(id))!.generation };
}

test("a message has the answer, its usage and why it ended", async () => {
  const cached = { ...usage, prompt_tokens_details: { cached_tokens: 1 } };
  const { message, id } = await answer({}, ["Hel", "lo"], { ...success, usage: cached });
  expect(message).toMatchObject({
    id: id.replace("job_", "msg_"),
    type: "message",
    role: "assistant",
    model: card.id,
    content: [{ type: "text", text: "Hello", citations: null }],
    stop_reason: "end_turn",
    stop_sequence: null,
    usage: {
      input_tokens: 2,
      cache_creation_input_tokens: 0,
      cache_read_input_tokens: 1,
      output_tokens: 2,
    },
  });
});

test("the job gets the system message, the conversation with an earlier answer, and the options", async () => {
  const first = await answer({});
  const cache_control = { type: "ephemeral" };
  const { generation, message } = await answer({
    system: [{ type: "text", text: "Be brief", cache_control }],
    messages: [
      ...messages,
      { role: "assistant", content: first.message.content },
      { role: "user", content: [{ type: "text", text: "More", cache_control }] },
    ],
    stop_sequences: ["END"],
    temperature: 0,
    top_k: 4,
    metadata: { user_id: "me".repeat(200) },
    tools: [],
    thinking: { type: "disabled" },
    service_tier: "auto",
    steering: { alpha: 1 },
  });
  expect(generation).toMatchObject({
    input: {
      messages: [
        { role: "system", content: "Be brief" },
        { role: "user", content: "Hi" },
        { role: "assistant", content: "Hello" },
        { role: "user", content: "More" },
      ],
    },
    stop: ["END"],
    temperature: 0,
    topK: 4,
    maxTokens: 9,
    alpha: 1,
  });
  const { requestOptions } = (await store.record(message.id.replace("msg_", "job_")))!;
  expect(requestOptions.user).toBe("me".repeat(200));
});

const length = { ...success, finish_reason: "length" } as const;
test.each<[Outcome, object, string, string | null]>([
  [{ ...success, stop_sequence: "END" }, {}, "stop_sequence", "END"],
  [{ ...length, usage: { ...usage, completion_tokens: 9 } }, {}, "max_tokens", null],
  [length, { max_tokens: undefined }, "model_context_window_exceeded", null],
])(
  "an outcome %j of a request with %j is the stop reason %3$s",
  async (outcome, fields, reason, stop) => {
    const { message } = await answer(fields, ["x"], outcome);
    expect(message).toMatchObject({ stop_reason: reason, stop_sequence: stop });
  },
);

describe("a stream", () => {
  test("has the events that the client adds up to the whole message", async () => {
    const stream = anthropic.messages.stream(ask);
    const types: string[] = [];
    stream.on("streamEvent", ({ type }) => types.push(type));
    const id = await tenant.playNext(["Hel", "lo"]);
    expect(await stream.finalMessage()).toMatchObject({
      id: id.replace("job_", "msg_"),
      content: [{ type: "text", text: "Hello" }],
      stop_reason: "end_turn",
      usage: { input_tokens: 3, output_tokens: 2 },
    });
    expect(types).toEqual([
      "message_start",
      "content_block_start",
      "content_block_delta",
      "content_block_delta",
      "content_block_stop",
      "message_delta",
      "message_stop",
    ]);
  });

  test("without text has no content", async () => {
    const stream = anthropic.messages.stream(ask);
    await tenant.playNext([]);
    expect((await stream.finalMessage()).content).toEqual([]);
  });

  test("ends with the error of a failed job", async () => {
    const stream = anthropic.messages.stream(ask);
    const failure = stream.finalMessage().catch((reason: unknown) => reason);
    const error = { code: "worker_lost", message: "Lost" } as const;
    await play(await tenant.queuedJob(), ["x"], { ...success, finish_reason: null, error });
    expect(await failure).toMatchObject({ type: "api_error" });
  });
});

test("a format is that of the job, and its errors have the name of this protocol", async () => {
  const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
  const format = (schema: object) => ({
    output_config: { format: { type: "json_schema", schema } },
  });
  expect((await answer(format(schema), ['{"a":1}'])).generation.grammar).toBeDefined();
  await expect(
    anthropic.messages.create({ ...ask, ...format({ type: "nothing" }) } as typeof ask),
  ).rejects.toMatchObject({
    error: { error: { param: expect.stringMatching(/^output_config\.format\.schema/) } },
  });
});

describe("functions", () => {
  const input_schema: Anthropic.Tool.InputSchema = {
    type: "object",
    properties: { city: { type: "string" } },
    required: ["city"],
  };
  const tools = [
    { name: "get_weather", description: "The weather", input_schema, cache_control: null },
  ];
  const call = '<tool_call>{"name": "get_weather", "arguments": {"city": "Paris"}}</tool_call>';
  const called = { ...success, finish_reason: "tool_calls" } as const;

  test("are given to the job, and a call is a block whose result continues the conversation", async () => {
    const choice = { tools, tool_choice: { type: "any", disable_parallel_tool_use: true } };
    const first = await answer(choice, [call], called);
    expect(first.generation.tools).toMatchObject({
      functions: [{ name: "get_weather", parameters: input_schema }],
      choice: "required",
      parallel: false,
    });
    expect(first.message.stop_reason).toBe("tool_use");
    const [use] = first.message.content;
    expect(use).toMatchObject({ type: "tool_use", name: "get_weather", input: { city: "Paris" } });
    const { id } = use as Anthropic.ToolUseBlock;
    const result = {
      type: "tool_result",
      tool_use_id: id,
      content: [{ type: "text", text: "Sunny" }],
    };
    const second = await answer({
      tools,
      messages: [
        ...messages,
        { role: "assistant", content: first.message.content },
        { role: "user", content: [result, { type: "text", text: "Well?" }] },
      ],
    });
    expect(second.generation.input).toMatchObject({
      messages: [
        { role: "user", content: "Hi" },
        {
          role: "assistant",
          toolCalls: [{ id, name: "get_weather", arguments: '{"city":"Paris"}' }],
        },
        { role: "tool", content: "Sunny", toolCallId: id },
        { role: "user", content: "Well?" },
      ],
    });
  });

  test("a call is sent back with arguments as long as a message may be", async () => {
    const input = { text: "x".repeat(40_000) };
    const use = { type: "tool_use", id: "toolu_1", name: "get_weather", input };
    const result = { type: "tool_result", tool_use_id: "toolu_1", content: "Done" };
    const { generation } = await answer({
      tools,
      system: "",
      tool_choice: { type: "none", disable_parallel_tool_use: false },
      messages: [
        ...messages,
        { role: "assistant", content: [use] },
        { role: "user", content: [result] },
      ],
    });
    const toolCalls = [{ id: "toolu_1", name: "get_weather", arguments: JSON.stringify(input) }];
    expect(generation.input).toMatchObject({
      messages: [{ role: "user" }, { toolCalls }, { role: "tool" }],
    });
  });

  test("a stream has the arguments of a call piece by piece", async () => {
    const stream = anthropic.messages.stream({ ...ask, tools });
    const json: string[] = [];
    stream.on("inputJson", (partial) => json.push(partial));
    await tenant.playNext(["Let me look. ", call.slice(0, 60), call.slice(60)], called);
    const { content, stop_reason } = await stream.finalMessage();
    expect(stop_reason).toBe("tool_use");
    expect(content).toMatchObject([
      { type: "text", text: expect.stringMatching("Let me look") },
      { type: "tool_use", name: "get_weather", input: { city: "Paris" } },
    ]);
    expect(json.join("")).toBe('{"city": "Paris"}');
  });

  test("a schema that cannot be held is refused with the name of this protocol", async () => {
    const strict = [
      { name: "f", strict: true, input_schema: { type: "object", $ref: "http://x" } },
    ];
    await expect(answer({ tools: strict })).rejects.toMatchObject({
      error: { error: { param: expect.stringMatching(/^tools\.0\.input_schema/) } },
    });
  });
});

describe("errors are those that the client knows", () => {
  test.each<[object, string]>([
    [{ max_tokens: 0 }, "max_tokens"],
    [{ messages: [{ role: "assistant", content: "I" }] }, "messages"],
    [{ messages: [{ role: "user", content: [{ type: "image" }] }] }, "messages.0.content.0.type"],
    [{ tools: [{ type: "web_search_20250305", name: "web_search" }] }, "tools.0.type"],
    [{ tools: [], tool_choice: { type: "any" } }, "tool_choice"],
    [{ thinking: { type: "enabled", budget_tokens: 1_024 } }, "thinking"],
  ])("%j is a bad request that names %s", async (fields, param) => {
    const refused = anthropic.messages.create({ ...ask, ...fields });
    await expect(refused).rejects.toBeInstanceOf(BadRequestError);
    await expect(refused).rejects.toMatchObject({
      type: "invalid_request_error",
      requestID: expect.stringMatching(/^req_/),
      error: { type: "error", error: { param } },
    });
  });

  test("without a key, for an unknown model, for another path, and above a limit", async () => {
    const error = (client: Anthropic, fields = {}) => client.messages.create({ ...ask, ...fields });
    const stranger = anthropic.withOptions({ apiKey: "tt_unknown" });
    await expect(error(stranger)).rejects.toMatchObject({ type: "authentication_error" });
    await expect(error(anthropic, { model: "x" })).rejects.toMatchObject({
      type: "not_found_error",
    });
    const missing = anthropic.messages.batches.list();
    await expect(missing).rejects.toMatchObject({ type: "not_found_error" });
    const { key } = await newTenant({ limits: { concurrent_jobs: 1 } });
    const limited = anthropic.withOptions({ apiKey: key });
    const open = await limited.messages.create({ ...ask, stream: true });
    await expect(error(limited)).rejects.toMatchObject({ type: "rate_limit_error" });
    open.controller.abort();
  });
});
