/** Functions in the Responses API: calls as items, their events, and conversations that go on with their results. */
import type OpenAI from "openai";
import { beforeEach, describe, expect, test } from "vitest";
import {
  card,
  claim,
  errorOf,
  newTenant,
  openaiOf,
  sse,
  store,
  success,
  type Client,
} from "../harness.ts";

const WEATHER = {
  type: "function" as const,
  name: "get_weather",
  description: "The weather in a city.",
  parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  strict: false,
};
const CALLS =
  '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>' +
  '\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>';
/** How steering changed a token that every model gives the same probability. */
const SHIFT = {
  alpha: 1,
  base: 0,
  expert: 0,
  antiexpert: 0,
  steered: 0,
  gain: 0,
  kl: 0,
  same: true,
  base_token: { id: 1, token: "a" },
  promoted: [],
  demoted: [],
};
const called = { ...success, finish_reason: "tool_calls" } as const;
const ask = { model: card.id, input: "Weather?", tools: [WEATHER] };

let tenant: Client;
let openai: OpenAI;
beforeEach(async () => {
  tenant = await newTenant();
  openai = openaiOf(tenant);
});

/** The messages of the next job's prompt, once it is submitted. */
async function submitted(fields: object) {
  const reply = await tenant.post("/v1/responses", { ...ask, ...fields, background: true });
  const { id } = await reply.json<{ id: string }>();
  const { input } = (await store.record(id.replace("resp_", "job_")))!.generation;
  return input.kind === "chat" ? input.messages : [];
}

const respond = async (pieces: string[], fields = {}) => {
  const [response] = await Promise.all([
    openai.responses.create({ ...ask, ...fields }),
    tenant.playNext(pieces, called),
  ]);
  return response;
};

test.each([
  [{ tools: [{ ...WEATHER, parameters: { type: "string" } }] }, "tools.0.parameters.type"],
  [{ tools: [{ type: "web_search" }] }, "tools.0.type"],
  [
    {
      tools: [
        {
          ...WEATHER,
          strict: true,
          parameters: { type: "object", properties: { a: { type: "string", pattern: "(a)\\1" } } },
        },
      ],
    },
    "tools.0.parameters.properties.a.pattern",
  ],
  [{ tool_choice: { type: "function", name: "other" } }, "tool_choice"],
])("what is wrong is refused by its name (%#)", async (fields, param) => {
  const error = await errorOf(await tenant.post("/v1/responses", { ...ask, ...fields }));
  expect(error).toMatchObject({ status: 400, param });
});

describe("a response", () => {
  test("has a message and its calls, and echoes the tools", async () => {
    const choice = {
      type: "allowed_tools",
      mode: "auto",
      tools: [{ type: "function", name: "get_weather" }],
    };
    const response = await respond([`Let me see.\n\n${CALLS}`], {
      tool_choice: choice,
      parallel_tool_calls: true,
    });
    const suffix = response.id.replace("resp_", "");
    expect(response).toMatchObject({
      status: "completed",
      tools: [WEATHER],
      tool_choice: choice,
      output_text: "Let me see.",
      output: [
        { type: "message", status: "completed" },
        {
          type: "function_call",
          id: `fc_${suffix}_0`,
          call_id: `call_${suffix}_0`,
          name: "get_weather",
          arguments: '{"city": "Oslo"}',
          status: "completed",
        },
        { type: "function_call", id: `fc_${suffix}_1`, arguments: '{"city": "Rome"}' },
      ],
    });
    expect(await openai.responses.retrieve(response.id)).toMatchObject({ output: response.output });
  });

  test("without a text has only calls", async () => {
    const { output } = await respond([CALLS], { tool_choice: "required" });
    expect(output.map(({ type }) => type)).toEqual(["function_call", "function_call"]);
  });

  test("that ends within a call is incomplete, and so is the call", async () => {
    const [response] = await Promise.all([
      openai.responses.create(ask),
      tenant.playNext([CALLS.slice(0, 60)], { ...success, finish_reason: "length" }),
    ]);
    expect(response).toMatchObject({
      status: "incomplete",
      output: [{ type: "function_call", status: "incomplete", arguments: '{"city": "O' }],
    });
  });
});

describe("the results of calls continue a conversation", () => {
  const outputs = (response: OpenAI.Responses.Response) =>
    response.output.flatMap((item) =>
      item.type === "function_call"
        ? [{ type: "function_call_output" as const, call_id: item.call_id, output: "fine" }]
        : [],
    );
  const expected = (id: string) => {
    const suffix = id.replace("resp_", "");
    const toolCalls = ["Oslo", "Rome"].map((city, i) => {
      return { id: `call_${suffix}_${i}`, name: "get_weather", arguments: `{"city": "${city}"}` };
    });
    return [
      { role: "user", content: "Weather?" },
      { role: "assistant", content: "Hm.", toolCalls },
      { role: "tool", content: "fine", toolCallId: `call_${suffix}_0` },
      { role: "tool", content: "fine", toolCallId: `call_${suffix}_1` },
    ];
  };

  test("with the items of the response sent back, by previous_response_id, and by references", async () => {
    const first = await respond([`Hm.\n${CALLS}`]);
    const results = outputs(first);
    const user = { role: "user", content: "Weather?" };
    const messages = expected(first.id);
    expect(await submitted({ input: [user, ...first.output, ...results] })).toEqual(messages);
    expect(await submitted({ previous_response_id: first.id, input: results })).toEqual(messages);
    // The type may be left out, as in OpenAI's API.
    const references = first.output.map(({ id }, i) => ({
      ...(i > 0 && { type: "item_reference" }),
      id,
    }));
    expect(await submitted({ input: [user, ...references, ...results] })).toEqual(messages);
  });

  test("by references to the calls of an output that was cut", async () => {
    const first = await Promise.all([
      openai.responses.create(ask),
      tenant.playNext([CALLS.slice(0, -20)], { ...success, finish_reason: "length" }),
    ]).then(([response]) => response);
    const suffix = first.id.replace("resp_", "");
    const input = [0, 1, 0].map((i) => ({ type: "item_reference", id: `fc_${suffix}_${i}` }));
    const toolCalls = ['{"city": "Oslo"}', '{"city": "', '{"city": "Oslo"}'].map((args, i) => {
      return { id: `call_${suffix}_${i % 2}`, name: "get_weather", arguments: args };
    });
    expect(await submitted({ input })).toEqual([{ role: "assistant", content: "", toolCalls }]);
  });

  test("and are listed as input items, which can be referred to", async () => {
    const first = await respond([`Hm.\n${CALLS}`]);
    const second = await respond(["Fine."], {
      previous_response_id: first.id,
      input: outputs(first),
    });
    const { data } = await openai.responses.inputItems.list(second.id, { order: "asc" });
    expect(data.map(({ type }) => type)).toEqual([
      "message",
      "message",
      "function_call",
      "function_call",
      "function_call_output",
      "function_call_output",
    ]);
    const references = data.map(({ id }) => ({ type: "item_reference", id }));
    expect(await submitted({ input: references })).toEqual(expected(first.id));
  });
});

describe("the events of a stream", () => {
  test("announce each item, and the arguments in pieces", async () => {
    const stream = openai.responses.stream({ ...ask, tools: [{ ...WEATHER, strict: false }] });
    const types: string[] = [];
    stream.on("event", ({ type }) => void types.push(type));
    const [final] = await Promise.all([
      stream.finalResponse(),
      tenant.playNext(["Hm.\n", CALLS.slice(0, 60), CALLS.slice(60)], called),
    ]);
    expect(types).toEqual([
      "response.created",
      "response.queued",
      "response.in_progress",
      "response.output_item.added",
      "response.content_part.added",
      "response.output_text.delta",
      "response.output_text.done",
      "response.content_part.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.function_call_arguments.delta",
      "response.function_call_arguments.delta",
      "response.function_call_arguments.done",
      "response.output_item.done",
      "response.output_item.added",
      "response.function_call_arguments.delta",
      "response.function_call_arguments.done",
      "response.output_item.done",
      "response.completed",
    ]);
    const whole = await openai.responses.retrieve(final.id);
    expect(final.output.map(({ id }) => id)).toEqual(whole.output.map(({ id }) => id));
    expect(whole.output).toMatchObject([
      { content: [{ text: "Hm." }] },
      { arguments: '{"city": "Oslo"}' },
      { arguments: '{"city": "Rome"}' },
    ]);
  });

  test.each([
    ["before calls", ["Hm", "é.", "\n\n<tool", CALLS.slice(5, 60), CALLS.slice(60)], ["Hm", "é."]],
    ["without calls", ["Hm", " <tool", "_x", "\n"], ["Hm", " <tool", "_x", "\n"]],
  ])("have the details of a text %s that the response has later", async (_, pieces, own) => {
    const fields = {
      ...ask,
      include: ["message.output_text.logprobs"],
      steering: { trace: true },
      stream: true,
    };
    const reply = await tenant.post("/v1/responses", fields);
    const id = await tenant.queuedJob();
    const { attempt } = await claim(id);
    // Two tokens in the first entry of the log.
    const tokens = [pieces.slice(0, 2), ...pieces.slice(2).map((piece) => [piece])];
    let at = 0;
    for (const texts of tokens) {
      const logprobs = texts.map((token) => ({
        id: token.length,
        token,
        logprob: -0.5,
        top: [],
      }));
      const ids = logprobs.map((entry) => entry.id);
      const trace = ids.map((id) => ({ ...SHIFT, id }));
      await store.appendTokens(id, attempt, at, { ids, text: texts.join(""), logprobs, trace });
      at += texts.length;
    }
    await store.finish(id, attempt, "succeeded", pieces.join(""), called);
    const frames = await Array.fromAsync(sse(reply));
    const events = frames
      .filter(({ data }) => data !== "[DONE]")
      .map(({ data }) => JSON.parse(data) as OpenAI.Responses.ResponseStreamEvent);
    const ofType = <Type extends string>(type: Type) =>
      events.filter((event): event is Extract<typeof event, { type: Type }> => event.type === type);
    const [done] = ofType("response.output_text.done");
    const [completed] = ofType("response.completed");
    expect(done!.logprobs.map(({ token }) => token)).toEqual(own);
    expect(ofType("response.output_text.delta").flatMap(({ logprobs }) => logprobs)).toEqual(
      done!.logprobs,
    );
    const later = await openai.responses.retrieve(id.replace("job_", "resp_"));
    expect(later.output).toEqual(completed!.response.output);
    const trace = own.map((token) => ({ ...SHIFT, id: token.length }));
    expect(done).toMatchObject({ trace });
    expect(later.output[0]).toMatchObject({ content: [{ logprobs: done!.logprobs, trace }] });
    const ofCalls = pieces.slice(own.length).map((token) => ({ ...SHIFT, id: token.length }));
    for (const response of [completed!.response, later]) {
      expect((response as { trace?: unknown }).trace ?? []).toEqual(ofCalls);
    }
  });

  test("have the same numbers for a reader that resumes", async () => {
    const reply = await tenant.post("/v1/responses", { ...ask, stream: true });
    const id = await tenant.playNext(Array.from(CALLS), called);
    const all = (await reply.text()).split("\n\n");
    const path = `/v1/responses/${id.replace("job_", "resp_")}?stream=true&starting_after=20`;
    const rest = await (await tenant.get(path)).text();
    expect(rest).toBe(all.slice(21).join("\n\n"));
  });
});
