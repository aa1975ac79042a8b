/** Constrained output on the whole stack, requested with the official `openai` client and as a job. */
import OpenAI from "openai";
import { expect, test } from "vitest";
import { runToEnd, useStack } from "./stack.ts";

const stack = useStack();

const schema = {
  type: "object",
  properties: {
    city: { type: "string", maxLength: 20 },
    certain: { type: "boolean" },
    in: { enum: ["europe", "asia"] },
  },
  required: ["city", "certain", "in"],
  additionalProperties: false,
};

test("a chat with a JSON schema has output that matches the schema, for any seed", async () => {
  const baseURL = `${stack.edge.url}/v1`;
  const openai = new OpenAI({ baseURL, apiKey: stack.key.key, maxRetries: 0 });
  for (const seed of [1, 2, 3]) {
    const { choices } = await openai.chat.completions.create({
      model: "atlas-qa",
      messages: [{ role: "user", content: "What is the capital of France?" }],
      seed,
      temperature: 1,
      max_tokens: 120,
      response_format: {
        type: "json_schema",
        json_schema: { name: "capital", strict: true, schema },
      },
    });
    expect(choices[0]?.finish_reason).toBe("stop");
    const answer = JSON.parse(choices[0]?.message.content ?? "") as Record<string, unknown>;
    expect(Object.keys(answer)).toEqual(["city", "certain", "in"]);
    expect(answer["city"]).toBeTypeOf("string");
    expect(answer["certain"]).toBeTypeOf("boolean");
    expect(["europe", "asia"]).toContain(answer["in"]);
  }
});

test("a job with a regular expression matches it, and reports the masked probability", async () => {
  const { output } = await runToEnd(stack.client, {
    model: "atlas-qa",
    prompt: "the capital of france is",
    response_format: { type: "regex", pattern: "[a-z]{3,9}, [0-9]{2}" },
  });
  expect(output.finish_reason).toBe("stop");
  expect(output.text).toMatch(/^[a-z]{3,9}, [0-9]{2}$/);
  expect(output.masked_mean).toBeGreaterThan(0);
  expect(output.masked_mean).toBeLessThanOrEqual(1);
});
