/** Functions that a model calls: what is refused, and the calls in the replies of chats and jobs. */
import OpenAI7 from "openai";
import OpenAI6 from "openai-6";
import { beforeEach, describe, expect, test } from "vitest";
import type { Generation } from "../../../shared/jobs/record.ts";
import {
  card,
  errorOf,
  newTenant,
  openaiOf,
  play,
  store,
  success,
  type Client,
} from "../harness.ts";

const WEATHER = {
  type: "function" as const,
  function: {
    name: "get_weather",
    description: "The weather in a city.",
    parameters: {
      type: "object",
      properties: { city: { type: "string" } },
      required: ["city"],
      additionalProperties: false,
    },
  },
};
const CLOCK = { type: "function", function: { name: "clock" } } as const;
const CALLS =
  '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>' +
  '\n<tool_call>\n{"name": "clock", "arguments": {}}\n</tool_call>';
const called = { ...success, finish_reason: "tool_calls" } as const;

const ask = {
  model: card.id,
  messages: [{ role: "user", content: "Weather in Oslo?" }],
  tools: [WEATHER, CLOCK],
} satisfies OpenAI7.ChatCompletionCreateParams;

let tenant: Client;
beforeEach(async () => void (tenant = await newTenant()));

async function queuedGeneration(): Promise<Generation> {
  return (await store.record(await tenant.queuedJob()))!.generation;
}

describe("the generation", () => {
  const generationOf = async (fields: object): Promise<Generation> => {
    const reply = await tenant.post("/v1/jobs", { ...ask, ...fields });
    const { id } = await reply.json<{ id: string }>();
    return (await store.record(id))!.generation;
  };

  test.each([
    [{}, { choice: "auto", parallel: true }],
    [{ tool_choice: "none" }, { choice: "none" }],
    [{ response_format: { type: "json_object", json_schema: null } }, { callsOnly: true }],
    [
      {
        tools: [
          {
            ...CLOCK,
            function: { ...CLOCK.function, other: null, defer_loading: false },
            cache_control: { type: "ephemeral" },
          },
        ],
      },
      { functions: [{ name: "clock" }] },
    ],
    [
      { tool_choice: "required", parallel_tool_calls: false },
      { choice: "required", parallel: false },
    ],
    [
      { tool_choice: { type: "function", function: { name: "clock" } } },
      { choice: "required", allowed: ["clock"] },
    ],
    [
      {
        tool_choice: {
          type: "allowed_tools",
          allowed_tools: {
            mode: "auto",
            tools: [{ type: "function", function: { name: "clock" } }],
          },
        },
      },
      { choice: "auto", allowed: ["clock"] },
    ],
  ])("has the choice of %j", async (fields, tools) => {
    expect((await generationOf(fields)).tools).toMatchObject({ format: "hermes", ...tools });
  });

  test("has no tools if the request has none", async () => {
    expect((await generationOf({ tools: [] })).tools).toBeUndefined();
  });

  test("has no grammar if no function may be called", async () => {
    expect((await generationOf({ tool_choice: "none" })).grammar).toBeUndefined();
  });
});

describe("a chat", () => {
  test("has the calls, and its conversation goes on with their results", async () => {
    const openai = openaiOf(tenant);
    const [first, jobId] = await Promise.all([
      openai.chat.completions.create(ask),
      tenant.playNext(["Let me see.\n", CALLS.slice(0, 30), CALLS.slice(30)], called),
    ]);
    const suffix = jobId.replace("job_", "");
    expect(first.choices[0]).toMatchObject({
      finish_reason: "tool_calls",
      message: {
        content: "Let me see.",
        tool_calls: [
          {
            id: `call_${suffix}_0`,
            type: "function",
            function: { name: "get_weather", arguments: '{"city": "Oslo"}' },
          },
          { id: `call_${suffix}_1`, function: { name: "clock", arguments: "{}" } },
        ],
      },
    });
    expect(await tenant.job(jobId)).toMatchObject({
      output: {
        text: `Let me see.\n${CALLS}`,
        tool_calls: first.choices[0]!.message.tool_calls,
        finish_reason: "tool_calls",
      },
    });
    const results = first.choices[0]!.message.tool_calls!.map(({ id }) => {
      return { role: "tool", tool_call_id: id, content: "fine" } as const;
    });
    const messages = [...ask.messages, first.choices[0]!.message, ...results];
    await tenant.post("/v1/jobs", { ...ask, messages });
    const { input } = await queuedGeneration();
    expect(input).toMatchObject({
      messages: [
        {},
        {
          role: "assistant",
          content: "Let me see.",
          toolCalls: [
            { id: `call_${suffix}_0`, name: "get_weather", arguments: '{"city": "Oslo"}' },
            {},
          ],
        },
        { role: "tool", toolCallId: `call_${suffix}_0`, content: "fine" },
        { role: "tool", toolCallId: `call_${suffix}_1` },
      ],
    });
  });

  test.each([
    ["7", OpenAI7],
    ["6", OpenAI6],
  ])("is streamed to the openai client %s, whatever the pieces are", async (_, major) => {
    const openai = openaiOf(tenant, major);
    const text = `Well\n\n${CALLS}`;
    const [message] = await Promise.all([
      openai.chat.completions.stream({ ...ask, n: 1 }).finalChatCompletion(),
      tenant.playNext(Array.from(text), called),
    ]);
    expect(message.choices[0]).toMatchObject({
      finish_reason: "tool_calls",
      message: {
        content: "Well",
        tool_calls: [
          { function: { name: "get_weather", arguments: '{"city": "Oslo"}' } },
          { function: { name: "clock", arguments: "{}" } },
        ],
      },
    });
  });

  test("that is resumed goes on after the reader's last event, with the same calls", async () => {
    const reply = await tenant.post("/v1/chat/completions", { ...ask, stream: true });
    const id = await tenant.playNext(Array.from(CALLS), called);
    const all = (await reply.text()).split("\n\n");
    for (const seq of [3, 20, 60]) {
      const at = all.findLastIndex((frame) => Number(/^id: (\d+)/m.exec(frame)?.[1]) <= seq);
      const path = `/v1/chat/completions/chatcmpl-${id}?stream=true`;
      const rest = await tenant.get(path, { "last-event-id": String(seq) });
      expect(await rest.text()).toBe(all.slice(Math.max(at, 0) + 1).join("\n\n"));
    }
  });

  test("runs the functions of openai's runTools until the model answers", async () => {
    const openai = openaiOf(tenant);
    const cities: string[] = [];
    const runner = openai.chat.completions.runTools({
      ...ask,
      tools: [
        {
          type: "function",
          function: {
            ...WEATHER.function,
            parse: JSON.parse as (text: string) => { city: string },
            function: ({ city }: { city: string }) => {
              cities.push(city);
              return "sunny";
            },
          },
        },
      ],
    });
    await tenant.playNext([CALLS.split("\n<")[0]!], called);
    await tenant.playNext(["It is sunny."]);
    expect(await runner.finalContent()).toBe("It is sunny.");
    expect(cities).toEqual(["Oslo"]);
  });
});

const parameters = (schema: object, fields = {}) => ({
  tools: [CLOCK, { type: "function", function: { name: "f", parameters: schema, ...fields } }],
});
const NEEDS_REGEX = { type: "object", properties: { a: { type: "string", pattern: "(a)\\1" } } };

test.each([
  [{ tools: [WEATHER, WEATHER] }, "tools"],
  [{ tools: [{ type: "web_search" }] }, "tools.0.type"],
  [{ tools: [{ type: "function", function: { name: "a b" } }] }, "tools.0.function.name"],
  [{ tools: [{ type: "function", function: { name: "x".repeat(65) } }] }, "tools.0.function.name"],
  [{ tools: Array.from({ length: 129 }, () => CLOCK) }, "tools"],
  [parameters({ type: "string" }), "tools.1.function.parameters.type"],
  [parameters(NEEDS_REGEX, { strict: true }), "tools.1.function.parameters.properties.a.pattern"],
  [
    parameters({
      type: "object",
      properties: { a: { type: "string", pattern: "(\\w{0,99}x?){0,99}" } },
    }),
    "tools.1.function.parameters.properties.a.pattern",
  ],
  [{ tools: [], tool_choice: "required" }, "tool_choice"],
  [{ tool_choice: { type: "function", function: { name: "other" } } }, "tool_choice"],
  [{ tool_choice: "always" }, "tool_choice"],
])("what is wrong is refused by its name (%#)", async (fields, param) => {
  const error = await errorOf(await tenant.post("/v1/chat/completions", { ...ask, ...fields }));
  expect(error).toMatchObject({ status: 400, param });
});

test("a function that is not strict may have a schema with keywords that are not supported", async () => {
  const reply = await tenant.post("/v1/jobs", { ...ask, ...parameters(NEEDS_REGEX) });
  expect(reply.status).toBe(202);
});

test("a job with a prompt has no tools", async () => {
  const { messages: _, ...fields } = ask;
  const error = await errorOf(await tenant.post("/v1/jobs", { ...fields, prompt: "Hi" }));
  expect(error).toMatchObject({ status: 400, param: "tools" });
});

test("what would be a call is text if no function may be called", async () => {
  const job = await tenant.post("/v1/jobs", { ...ask, tool_choice: "none" });
  const { id } = await job.json<{ id: string }>();
  await play(id, [CALLS]);
  expect((await tenant.job(id)).output).toMatchObject({ text: CALLS, finish_reason: "stop" });
  expect((await tenant.job(id)).output).not.toHaveProperty("tool_calls");
});
