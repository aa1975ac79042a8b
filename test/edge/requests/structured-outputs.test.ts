/** vLLM's fields for the format of the output: in each protocol, and that errors name the field that was sent. */
import { beforeAll, expect, test } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import { card, errorOf, newTenant, store, type Client } from "../harness.ts";

let client: Client;
beforeAll(async () => {
  client = await newTenant();
});

const messages = [{ role: "user", content: "Hi" }];
const PROTOCOLS: [path: string, body: object][] = [
  ["/v1/chat/completions", { messages, stream: true }],
  ["/v1/completions", { prompt: "Hi", stream: true }],
  ["/v1/responses", { input: "Hi", background: true }],
];

async function formatOfJob(path: string, body: object): Promise<unknown> {
  const reply = await client.post(path, { model: card.id, ...body });
  const id = reply.headers.get("x-trimtab-job-id");
  if (id === null) throw new Error(await reply.text());
  await reply.body!.cancel();
  const { requestOptions, generation } = (await store.record(id))!;
  expect(generation.grammar === undefined).toBe(requestOptions.format === undefined);
  return requestOptions.format;
}

const schema = { type: "object", properties: { a: { type: "integer" } } };
const asSchema = { type: "json_schema", json_schema: { name: "output", schema } };
const grammar = 'root ::= "a" | "b"';
const choices = ["yes", 'no "\\', "a\nb"];
const choiceGrammar = String.raw`root ::= "yes" | "no \"\\" | "a\x0ab"`;

test.each<[fields: object, format: object | undefined]>([
  [{ structured_outputs: { json: schema, whitespace_pattern: null } }, asSchema],
  [{ structured_outputs: { json: JSON.stringify(schema) } }, asSchema],
  [
    { structured_outputs: { regex: "a+", disable_fallback: true } },
    { type: "regex", pattern: "a+" },
  ],
  [{ structured_outputs: { choice: choices } }, { type: "grammar", grammar: choiceGrammar }],
  [{ structured_outputs: { grammar } }, { type: "grammar", grammar }],
  [{ structured_outputs: { json_object: true } }, { type: "json_object" }],
  [{ structured_outputs: { json_object: false, json: null, choice: [] } }, undefined],
  [{ structured_outputs: {}, guided_json: null, guided_choice: [], guided_regex: "" }, undefined],
  [{ guided_json: schema, guided_decoding_backend: "outlines" }, asSchema],
  [{ guided_regex: "a+" }, { type: "regex", pattern: "a+" }],
  [{ guided_choice: ["a", "ab"] }, { type: "grammar", grammar: 'root ::= "a" | "ab"' }],
  [{ guided_grammar: grammar }, { type: "grammar", grammar }],
])("%j", async (fields, format) => {
  for (const [path, body] of PROTOCOLS) {
    expect(await formatOfJob(path, { ...body, ...fields })).toEqual(format);
  }
});

test("numbers of a schema that is sent as text are kept as they are written", async () => {
  const [[path, body]] = PROTOCOLS as [(typeof PROTOCOLS)[0]];
  const json = '{"const": 9007199254740993}';
  const reply = await client.post(path, { model: card.id, ...body, guided_json: json });
  const record = await store.record(reply.headers.get("x-trimtab-job-id")!);
  await reply.body!.cancel();
  expect(JSON.stringify(record!.generation.grammar)).toContain("9007199254740993");
});

const response_format = { type: "json_object" };
const unsupported = "unsupported_parameter";
test.each<[fields: object, param: string, message: RegExp, code?: string]>([
  [
    { structured_outputs: { json: { items: { format: "regex" } } } },
    "structured_outputs.json.items.format",
    /^structured_outputs\.json\.items\.format is not supported here/,
    unsupported,
  ],
  [{ structured_outputs: { json: "{" } }, "structured_outputs.json", /is not valid JSON/],
  [{ guided_json: "[]" }, "guided_json", /must be a JSON Schema that is an object/],
  [{ guided_json: 1 }, "guided_json", /must be a JSON Schema/],
  [
    { structured_outputs: { regex: "(" } },
    "structured_outputs.regex",
    /^structured_outputs\.regex must/,
  ],
  [{ guided_regex: "(" }, "guided_regex", /^guided_regex must be a regular expression/],
  [
    { guided_choice: ["é", "a".repeat(LIMITS.grammarChoiceBytesMax - 1)] },
    "guided_choice",
    /^guided_choice must be at most 20000 bytes of UTF-8 in all choices together/,
  ],
  [
    { guided_grammar: "a".repeat(LIMITS.grammarCharsMax + 1) },
    "guided_grammar",
    /^guided_grammar must have at most 65536 characters/,
  ],
  [
    { guided_grammar: 'root ::= a\na ::= root "x" | "y"' },
    "guided_grammar.root",
    /begins with itself/,
    unsupported,
  ],
  [{ structured_outputs: { grammar: "x" } }, "structured_outputs.grammar", /in Lark: expected/],
  [
    { structured_outputs: { structural_tag: "{}" } },
    "structured_outputs.structural_tag",
    /is not a supported parameter/,
    unsupported,
  ],
  [
    { structured_outputs: { json: schema, whitespace_pattern: "[ ]" } },
    "structured_outputs.whitespace_pattern",
    /is not a supported parameter/,
    unsupported,
  ],
  [
    { structured_outputs: { json: schema, disable_any_whitespace: true } },
    "structured_outputs.disable_any_whitespace",
    /is not a supported parameter/,
    unsupported,
  ],
  [
    { structured_outputs: { regex: "a", choice: ["a"] } },
    "structured_outputs.regex",
    /^structured_outputs\.regex must be absent beside structured_outputs\.choice/,
  ],
  [
    { structured_outputs: { regex: "a" }, guided_json: schema },
    "structured_outputs.regex",
    /guided_json/,
  ],
])("%j is refused", async (fields, param, message, code = "invalid_request") => {
  for (const [path, body] of PROTOCOLS) {
    const error = await errorOf(await client.post(path, { model: card.id, ...body, ...fields }));
    expect(error).toMatchObject({ status: 400, code, param });
    expect(error.message).toMatch(message);
  }
});

test("they are refused beside the protocol's own format, unless that is any text", async () => {
  const [chat, , responses] = PROTOCOLS as [[string, object], unknown, [string, object]];
  const refused: [[string, object], object, string][] = [
    [chat, { response_format }, "response_format"],
    [responses, { text: { format: response_format } }, "text.format"],
  ];
  for (const [[path, body], own, name] of refused) {
    const fields = { model: card.id, ...body, ...own, guided_regex: "a" };
    const error = await errorOf(await client.post(path, fields));
    const message = `guided_regex must be absent beside ${name}: an output has one format`;
    expect(error).toMatchObject({ status: 400, param: "guided_regex", message });
  }
  const text = { response_format: { type: "text" }, guided_regex: "a" };
  const format = { type: "regex", pattern: "a" };
  expect(await formatOfJob(chat[0], { ...chat[1], ...text })).toEqual(format);
});

test("choices are compiled up to their limit, also where their grammar has more characters than a request's may", async () => {
  // An account's time for compiling is limited.
  const own = await newTenant();
  for (const choice of ["a".repeat(LIMITS.grammarChoiceBytesMax), "\n".repeat(17_000)]) {
    const fields = { messages, model: card.id, stream: true, guided_choice: [choice] };
    const reply = await own.post("/v1/chat/completions", fields);
    expect(reply.status).toBe(200);
    await reply.body!.cancel();
  }
});

test("a job has a grammar as its own format", async () => {
  const { id } = await client.submit({ response_format: { type: "grammar", grammar } });
  expect((await store.record(id))!.generation.grammar).toHaveProperty("rules");
});
