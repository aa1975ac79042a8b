/** Response formats in requests: the form in each protocol, and that errors name the field. */
import { beforeAll, expect, test } from "vitest";
import type { Grammar } from "../../../shared/grammar/rules/grammar.ts";
import { LIMITS } from "../../../shared/api/limits.ts";
import { card, claim, errorOf, newTenant, store, success, type Client } from "../harness.ts";

let client: Client;
beforeAll(async () => {
  client = await newTenant();
});

const schema = { type: "object", properties: { a: { type: "integer" } }, required: ["a"] };
const jsonSchema = (changes: object = {}) => ({
  type: "json_schema",
  json_schema: { name: "answer", strict: true, schema, ...changes },
});

async function grammarOfJob(response_format: object): Promise<Grammar | undefined> {
  const { id } = await client.submit({ response_format });
  return (await store.record(id))!.generation.grammar;
}

test("a job is queued with its grammar, and without one for text", async () => {
  expect(await grammarOfJob(jsonSchema())).toHaveProperty("rules");
  expect(await grammarOfJob({ type: "json_object" })).toHaveProperty("rules");
  expect(await grammarOfJob({ type: "regex", pattern: "a" })).toEqual({
    rules: [{ rule: 1 }, { byte: [[97, 97]] }],
  });
  expect(await grammarOfJob({ type: "text" })).toBeUndefined();
});

const root = "response_format.json_schema.schema";
test.each<[format: unknown, param: string, message: string | RegExp, code?: string]>([
  ["json", "response_format", /must be an object/, "unsupported_parameter"],
  [
    { type: "xml" },
    "response_format.type",
    /must be "text" \| "json_object" \| "regex" \|/,
    "unsupported_parameter",
  ],
  [{ type: "regex", pattern: "" }, "response_format.pattern", /must not be empty/],
  [{ type: "regex", pattern: "(" }, "response_format.pattern", /must be a regular expression/],
  [
    { type: "regex", pattern: "a".repeat(LIMITS.regexCharsMax + 1) },
    "response_format.pattern",
    /must have at most 1024 characters, received 1025/,
  ],
  [{ type: "json_schema" }, "response_format.json_schema", /is required/],
  [jsonSchema({ name: "a b" }), "response_format.json_schema.name", /1 to 64 letters/],
  [jsonSchema({ schema: undefined }), root, /is required/],
  [jsonSchema({ schema: [] }), root, /must be an object/],
  [
    jsonSchema({ schema: { ...schema, description: "x".repeat(LIMITS.schemaCharsMax) } }),
    root,
    /must be at most 262144 characters of JSON/,
  ],
  [
    jsonSchema({ schema: { type: "object", properties: { a: { format: "regex" } } } }),
    `${root}.properties.a.format`,
    `${root}.properties.a.format is not supported here`,
    "unsupported_parameter",
  ],
  [{ type: "text", extra: 1 }, "response_format.extra", /not a supported/, "unsupported_parameter"],
])("%j is refused", async (response_format, param, message, code = "invalid_request") => {
  const body = { model: card.id, prompt: "x", response_format };
  for (const path of ["/v1/jobs", "/v1/completions"]) {
    const error = await errorOf(await client.post(path, body));
    expect(error).toMatchObject({ status: 400, code, param });
    expect(error.message).toMatch(message);
  }
});

test("the events have the masked probability of each token, and the ended job has the mean", async () => {
  const { id } = await client.submit({ response_format: { type: "json_object" } });
  const { attempt } = await claim(id);
  await store.appendTokens(id, attempt, 0, { ids: [1, 2], text: "{", masked: [0.5, 0.1] });
  await store.appendTokens(id, attempt, 2, { ids: [3], text: "}", masked: [0.9] });
  expect((await client.job(id)).output).toEqual({ text: "{}", finish_reason: null });
  await store.finish(id, attempt, "succeeded", "{}", success);
  const { output } = await client.job(id);
  expect(output).toEqual({ text: "{}", masked_mean: 0.5, finish_reason: "stop" });
});
