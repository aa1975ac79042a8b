/** OpenAI's Agents SDK, over chat completions and over responses, whole and streamed. */
import assert from "node:assert";
import { Agent, OpenAIProvider, Runner, setTracingDisabled, tool } from "@openai/agents";
import { z } from "zod";

const { BASE_URL: baseURL, API_KEY: apiKey, MODEL: model } = process.env;
setTracingDisabled(true);
const asked = [];
const getWeather = tool({
  name: "get_weather",
  description: "The weather in a city.",
  parameters: z.object({ city: z.string() }),
  execute: ({ city }) => {
    asked.push(city);
    return "sunny";
  },
});
for (const useResponses of [false, true]) {
  const modelProvider = new OpenAIProvider({ baseURL, apiKey, useResponses });
  const runner = new Runner({ modelProvider, tracingDisabled: true });
  const agent = new Agent({
    name: "Weather",
    instructions: "Be short.",
    model,
    tools: [getWeather],
  });
  const whole = await runner.run(agent, "Weather in Oslo?");
  assert.match(whole.finalOutput, /sunny/);
  const streamed = await runner.run(agent, "Weather in Oslo?", { stream: true });
  for await (const _ of streamed);
  assert.match(streamed.finalOutput, /sunny/);
}
assert.deepEqual(asked, ["Oslo", "Oslo", "Oslo", "Oslo"]);
