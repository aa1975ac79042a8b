/** The AI SDK with tools: over chat completions, with its provider for compatible servers, and over responses. */
import assert from "node:assert";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const { BASE_URL: baseURL, API_KEY: apiKey, MODEL } = process.env;
const openai = createOpenAI({ baseURL, apiKey });
const compatible = createOpenAICompatible({ name: "trimtab", baseURL, apiKey });
const asked = [];
const tools = {
  get_weather: tool({
    description: "The weather in a city.",
    inputSchema: z.object({ city: z.string() }),
    execute: ({ city }) => {
      asked.push(city);
      return "sunny";
    },
  }),
};
for (const model of [openai.chat(MODEL), openai.responses(MODEL), compatible(MODEL)]) {
  const ask = { model, tools, prompt: "Weather in Oslo?", stopWhen: stepCountIs(3), maxRetries: 0 };
  assert.match((await generateText(ask)).text, /sunny/);
  const errors = [];
  const streamed = streamText({ ...ask, onError: ({ error }) => errors.push(error) });
  const text = await streamed.text;
  assert.deepEqual(errors, []);
  assert.match(text, /sunny/);
}
assert.deepEqual(
  asked,
  Array.from({ length: 6 }, () => "Oslo"),
);
