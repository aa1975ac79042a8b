/** Members of requests that ask for nothing are absent, in every protocol; what is not served is refused by name. */
import { isDeepStrictEqual } from "node:util";
import type { GenericSchema } from "valibot";
import { describe, expect, test } from "vitest";
import { BatchRequest } from "../../../shared/api/batches.ts";
import { ChatRequest, CompletionRequest } from "../../../shared/api/chat-and-completions.ts";
import { JobRequest } from "../../../shared/api/jobs.ts";
import { KeyRequest, KeyRotationRequest } from "../../../shared/api/keys.ts";
import { CancellationRequest, RerunRequest } from "../../../shared/api/reruns.ts";
import { ResponseRequest } from "../../../shared/api/responses.ts";
import { ScoreRequest } from "../../../shared/api/score.ts";
import { TicketRequest } from "../../../shared/api/tickets.ts";
import { EndpointRequest, WebhookKeyRotationRequest } from "../../../shared/api/webhooks.ts";
import { parseRequest } from "../../../shared/submission/validate.ts";

const messages = [{ role: "user", content: "Hi" }];
const model = "demo";
const PROTOCOLS: [name: string, schema: GenericSchema, request: object][] = [
  ["chat", ChatRequest, { model, messages }],
  ["completions", CompletionRequest, { model, prompt: "Hi" }],
  ["responses", ResponseRequest, { model, input: "Hi" }],
  ["jobs", JobRequest, { model, messages }],
  ["score", ScoreRequest, { model, messages, completion: "Hello" }],
];

/** Fields that SDKs and frameworks send without being asked for them. */
const NOTHING: object[] = [
  { tools: [], tool_choice: "none", parallel_tool_calls: false, functions: [] },
  { tools: null, tool_choice: null, function_call: "auto", parallel_tool_calls: true },
  { service_tier: "auto", reasoning_effort: null, reasoning: { effort: null, summary: "auto" } },
  { service_tier: "default", reasoning_effort: "none", reasoning: {}, verbosity: "medium" },
  { modalities: ["text"], audio: null, prediction: null, web_search_options: null },
  { truncation: "auto", stream_options: null, include: null, metadata: null, store: null },
  { seed: -1, top_k: -1, max_tokens: -1, stop: "", user: "", temperature: null },
  { n: 1, best_of: 1, use_beam_search: false, ignore_eos: false, logprobs: false, echo: false },
  { prompt_cache_retention: "in_memory", safety_identifier: null, cache_prompt: true },
  { chat_template_kwargs: {}, some_field_of_tomorrow: null, others: [] },
];

const ASKS: [member: string, value: unknown][] = [
  ["audio", { voice: "alloy", format: "wav" }],
  ["modalities", ["text", "audio"]],
  ["service_tier", "priority"],
  ["reasoning_effort", "high"],
  ["reasoning", { effort: "low", summary: null }],
  ["prediction", { type: "content", content: "x" }],
  ["web_search_options", {}],
  ["verbosity", "low"],
  ["ignore_eos", true],
  ["some_field_of_tomorrow", 1],
];

describe.each(PROTOCOLS)("%s", (_, schema, request) => {
  const plain = parseRequest(schema, request);

  test.each(NOTHING)("%j is the same as nothing", (members) => {
    // Values of fields that the protocol serves stay: their meaning is the same as that of an absent field.
    const served = {
      n: 1,
      best_of: 1,
      echo: false,
      stream: false,
      tool_choice: "none",
      parallel_tool_calls: true,
      chat_template_kwargs: {},
    };
    const absent = Object.fromEntries(
      Object.entries(parseRequest(schema, { ...request, ...members }) as object).filter(
        ([name, value]) =>
          !(name in served && isDeepStrictEqual(value, served[name as keyof typeof served])) &&
          value !== false,
      ),
    );
    expect(absent).toEqual(plain);
  });

  test.each(ASKS)("%s: %j is refused by its name", (member, value) => {
    const parse = () => parseRequest(schema, { ...request, [member]: value });
    expect(parse).toThrow(
      expect.objectContaining({ code: "unsupported_parameter", param: member }),
    );
  });
});

test("members of other objects follow the same rule", () => {
  const [, , chat] = PROTOCOLS[0]!;
  const options = (members: object) => ({ ...chat, stream_options: members });
  const nothing = options({ continuous_usage_stats: false, some_option: null });
  expect(parseRequest(ChatRequest, nothing).stream_options).toEqual({});
  expect(() => parseRequest(ChatRequest, options({ continuous_usage_stats: true }))).toThrow(
    expect.objectContaining({ param: "stream_options.continuous_usage_stats" }),
  );
  expect(parseRequest(ChatRequest, { ...chat, steering: { alpha: null } }).steering).toEqual({});
});

test.each<[schema: GenericSchema, request: object]>([
  [KeyRequest, { name: "a" }],
  [KeyRotationRequest, {}],
  [TicketRequest, { action: "stream" }],
  [EndpointRequest, { url: "https://example.com/hook" }],
  [WebhookKeyRotationRequest, {}],
  [BatchRequest, { input_file_id: "a", endpoint: "/v1/completions", completion_window: "24h" }],
  [CancellationRequest, { model: "demo" }],
  [RerunRequest, {}],
])("requests without a generation follow it, too (%#)", (schema, request) => {
  const nothing = { user: "", limits: null, overlap: null, some_field_of_tomorrow: null };
  expect(parseRequest(schema, { ...request, ...nothing })).toEqual(parseRequest(schema, request));
  expect(() => parseRequest(schema, { ...request, some_field_of_tomorrow: 1 })).toThrow(
    expect.objectContaining({ code: "unsupported_parameter", param: "some_field_of_tomorrow" }),
  );
});

test("an object without the members that ask for nothing keeps every other name", () => {
  const body = JSON.parse('{"model": "demo", "input": "Hi", "__proto__": 1}') as object;
  expect(() => parseRequest(ResponseRequest, body)).toThrow(
    expect.objectContaining({ param: "__proto__" }),
  );
});
