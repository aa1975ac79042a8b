/** Tools on the whole stack: a worker with a model that calls a function, and the demo models, which must call one. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import OpenAI from "openai";
import { afterAll, beforeAll, expect, test } from "vitest";
import { SCRIPTED_MODEL, writeScriptedModel } from "../support/scripted-model.ts";
import { runToEnd, useStack } from "./stack.ts";

const folder = mkdtempSync(join(tmpdir(), "trimtab-scripted-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const manifest = writeScriptedModel(folder, {
  calls: { get_weather: { city: "Oslo", days: 3 } },
  answer: "It is sunny in Oslo.",
});
const stack = useStack({ TRIMTAB_MODELS: manifest });

const WEATHER = {
  type: "function" as const,
  function: {
    name: "get_weather",
    description: "The weather in a city.",
    parameters: {
      type: "object",
      properties: {
        city: { type: "string", maxLength: 12 },
        days: { type: "integer", minimum: 1, maximum: 14 },
      },
      required: ["city", "days"],
      additionalProperties: false,
    },
  },
};
const messages = [{ role: "user" as const, content: "Weather in Oslo?" }];

let openai: OpenAI;
beforeAll(() => {
  openai = new OpenAI({ baseURL: `${stack.edge.url}/v1`, apiKey: stack.key.key, maxRetries: 0 });
});

test.each([false, true])(
  "runTools calls the function and gets the answer (stream: %s)",
  async (stream) => {
    const calls: object[] = [];
    const tool = {
      type: "function" as const,
      function: {
        ...WEATHER.function,
        parse: JSON.parse as (text: string) => object,
        function: (args: object) => {
          calls.push(args);
          return "sunny";
        },
      },
    };
    const runner = stream
      ? openai.chat.completions.runTools({ model: SCRIPTED_MODEL, messages, tools: [tool], stream })
      : openai.chat.completions.runTools({ model: SCRIPTED_MODEL, messages, tools: [tool] });
    expect(await runner.finalContent()).toBe("It is sunny in Oslo.");
    expect(calls).toEqual([{ city: "Oslo", days: 3 }]);
  },
);

test("a response calls the function, and continues with its result", async () => {
  const { type, function: fields } = WEATHER;
  const tools = [{ type, strict: false, ...fields }];
  const first = await openai.responses.create({ model: SCRIPTED_MODEL, input: "Weather?", tools });
  const [call] = first.output;
  expect(call).toMatchObject({ type: "function_call", arguments: '{"city":"Oslo","days":3}' });
  if (call?.type !== "function_call") return;
  const second = await openai.responses.create({
    model: SCRIPTED_MODEL,
    previous_response_id: first.id,
    input: [{ type: "function_call_output", call_id: call.call_id, output: "sunny" }],
    tools,
  });
  expect(second.output_text).toBe("It is sunny in Oslo.");
});

test("models that never call a function do it if they must, with valid arguments, for any seed", async () => {
  await stack.startWorker({});
  for (const seed of [1, 2, 3]) {
    const { output, state } = await runToEnd(stack.client, {
      model: "atlas-qa",
      messages,
      tools: [WEATHER],
      tool_choice: "required",
      parallel_tool_calls: false,
      seed,
      temperature: 1,
      max_tokens: 200,
    });
    expect([state, output.finish_reason]).toEqual(["succeeded", "tool_calls"]);
    const args = JSON.parse(output.tool_calls![0]!.function.arguments) as Record<string, unknown>;
    expect([typeof args["city"], Number.isInteger(args["days"])]).toEqual(["string", true]);
  }
});
