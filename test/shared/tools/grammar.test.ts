/** The grammar of outputs with calls: what it allows is what the parser reads, with arguments that match the schemas. */
import { describe, expect, test } from "vitest";
import { TOOL_FORMATS, TOOL_FORMAT_NAMES, writeCalls } from "../../../shared/tools/formats.ts";
import { compileOutputRules } from "../../../shared/tools/grammar.ts";
import { parseOutput } from "../../../shared/tools/parser.ts";
import type { ToolSettings } from "../../../shared/tools/tools.ts";
import { accepts, anyText, grammarMatcher, schemaFormat } from "../../support/grammar.ts";

const FUNCTIONS: ToolSettings["functions"] = [
  {
    name: "get_weather",
    parameters: {
      type: "object",
      properties: { city: { enum: ["Oslo", "Rome"] }, days: { type: "integer", maximum: 9 } },
      required: ["city"],
    },
  },
  { name: "clock" },
  { name: "any", parameters: { type: "object" } },
];

const settings = (fields: Partial<ToolSettings>): ToolSettings => ({
  format: "hermes",
  functions: FUNCTIONS,
  choice: "auto",
  parallel: true,
  ...fields,
});
const matcher = (fields: Partial<ToolSettings>, format?: ReturnType<typeof schemaFormat>) =>
  grammarMatcher(compileOutputRules({ tools: settings(fields), format })!);

const OSLO = { name: "get_weather", arguments: '{"city": "Oslo"}' };
const PARIS = { name: "get_weather", arguments: '{"city": "Paris"}' };
const CLOCK = { name: "clock", arguments: "{}" };

test("mistral: a call may end with an id, as the template writes it", () => {
  const tools = settings({ format: "mistral" });
  const call =
    '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Oslo"}, "id": "Ab3dE6gH9"}]';
  expect(accepts(matcher({ format: "mistral" }), call)).toBe(true);
  expect(parseOutput(tools, call).calls).toEqual([OSLO]);
  expect(accepts(matcher({ format: "mistral" }), call.replace("Ab", "A-"))).toBe(false);
  expect(
    accepts(matcher({ format: "llama3" }), '{"name": "clock", "parameters": {}, "id": "a"}'),
  ).toBe(false);
});

describe.each(TOOL_FORMAT_NAMES)("%s", (name) => {
  const format = TOOL_FORMATS[name];
  const auto = matcher({ format: name });
  const text = (...calls: readonly (typeof OSLO)[]) => writeCalls(format, calls);

  test("one call or several, with arguments of the schema", () => {
    expect(accepts(auto, text(OSLO))).toBe(true);
    expect(accepts(auto, text(OSLO, CLOCK, OSLO))).toBe(true);
    expect(accepts(auto, text(PARIS))).toBe(false);
    expect(accepts(auto, text({ ...OSLO, name: "other" }))).toBe(false);
    expect(accepts(auto, text(OSLO).slice(0, -1))).toBe(false);
    expect(accepts(auto, `${text(OSLO)}.`)).toBe(false);
  });

  test("any text, until the trigger is complete", () => {
    const { trigger, afterText } = format;
    for (const plain of ["", "Hi {} <to", `x ${trigger.slice(0, -1)} ${trigger.slice(0, -1)}`]) {
      expect(accepts(auto, plain)).toBe(true);
    }
    expect(accepts(auto, trigger)).toBe(false);
    // A beginning of the trigger that begins again, as in "<<tool_call>".
    expect(accepts(auto, `${trigger[0]}${trigger}x`)).toBe(!afterText);
    expect(accepts(auto, `Hi ${trigger} x`)).toBe(!afterText);
    expect(accepts(auto, `Hi ${trigger[0]}${text(OSLO)}`)).toBe(true);
  });

  test("required: only calls, of the allowed functions, one if they are not parallel", () => {
    const one = matcher({ format: name, choice: "required", parallel: false, allowed: ["clock"] });
    expect(accepts(one, text(CLOCK))).toBe(true);
    expect(accepts(one, text(CLOCK, CLOCK))).toBe(false);
    expect(accepts(one, text(OSLO))).toBe(false);
    expect(accepts(one, "Hi")).toBe(false);
  });

  test("arguments have only properties that the function declares, unless its schema speaks of others", () => {
    const parameters = { type: "object", properties: { a: {} } };
    const one = matcher({ format: name, functions: [{ name: "f", parameters }] });
    expect(accepts(one, text({ name: "f", arguments: '{"a": 1}' }))).toBe(true);
    expect(accepts(one, text({ name: "f", arguments: '{"b": 1}' }))).toBe(false);
    const open = { ...parameters, additionalProperties: { type: "integer" } };
    const other = matcher({ format: name, functions: [{ name: "f", parameters: open }] });
    expect(accepts(other, text({ name: "f", arguments: '{"a": 1, "b": 1}' }))).toBe(true);
  });

  test("arguments are an object, also if the schema allows other values", () => {
    const schemas = [
      {},
      { title: "A" },
      { $ref: "#/$defs/a", $defs: { a: {} } },
      { anyOf: [{ type: "object" }, { type: "null" }] },
    ];
    for (const parameters of schemas) {
      const one = matcher({ format: name, functions: [{ name: "f", parameters }] });
      for (const value of ["5", '"x"', "null", "[]"]) {
        expect(accepts(one, text({ name: "f", arguments: value }))).toBe(false);
      }
      expect(accepts(one, text({ name: "f", arguments: '{"a": 1}' }))).toBe(true);
    }
    const parameters = { properties: {}, required: ["a"] };
    const required = matcher({ format: name, functions: [{ name: "f", parameters }] });
    expect(accepts(required, text({ name: "f", arguments: "{}" }))).toBe(false);
    expect(accepts(required, text({ name: "f", arguments: '{"a": 1}' }))).toBe(true);
  });

  test("each random output of the grammar is read as calls with valid arguments", () => {
    const tools = settings({ format: name, choice: "required" });
    const required = matcher(tools);
    const outputs = Array.from({ length: 40 }, (_, seed) => anyText(required, seed, 400));
    const whole = outputs.filter((output) => output !== null);
    expect(whole.length).toBeGreaterThan(10);
    for (const output of whole) {
      const { text, calls } = parseOutput(tools, output);
      expect([text, calls.length > 0]).toEqual(["", true]);
      for (const call of calls) expect(isValid(call)).toBe(true);
    }
  });
});

function isValid(call: { readonly name: string; readonly arguments: string }): boolean {
  const args = JSON.parse(call.arguments) as { city?: string; days?: number };
  if (call.name === "get_weather") {
    return ["Oslo", "Rome"].includes(args.city!) && (args.days ?? 0) <= 9;
  }
  return call.name === "any" || (call.name === "clock" && Object.keys(args).length === 0);
}

test("with a response format, the output is a call or matches the format", () => {
  const format = schemaFormat({ type: "object", properties: { a: { type: "integer" } } });
  const both = matcher({}, format);
  expect(accepts(both, '{"a": 1}')).toBe(true);
  expect(accepts(both, writeCalls(TOOL_FORMATS.hermes, [OSLO]))).toBe(true);
  expect(accepts(both, "Hi")).toBe(false);
});

test("mistral-args: a call may have an id", () => {
  const output = "[TOOL_CALLS]clock[CALL_ID]a1B2c3D4e[ARGS]{}[TOOL_CALLS]clock[ARGS]{}";
  const tools = settings({ format: "mistral-args" });
  expect(accepts(matcher(tools), output)).toBe(true);
  expect(parseOutput(tools, output)).toEqual({ text: "", calls: [CLOCK, CLOCK] });
});
