import { expect, test } from "vitest";
import { TOOL_FORMATS, TOOL_FORMAT_NAMES, writeCalls } from "../../../shared/tools/formats.ts";
import {
  joinParts,
  OutputParser,
  parseOutput,
  type OutputPart,
} from "../../../shared/tools/parser.ts";
import type { ToolSettings } from "../../../shared/tools/tools.ts";
import { GumbelNoise } from "../../../worker/engine/decode/noise.ts";

const settings = (format: string): ToolSettings => ({
  format,
  functions: ["get_weather", "f-2", "f"].map((name) => ({ name })),
  choice: "auto",
  parallel: true,
});

const CALLS = [
  { name: "get_weather", arguments: '{"city": "São } \\" Paulo", "days": [1, {"a": null}]}' },
  { name: "f-2", arguments: "{}" },
  { name: "get_weather", arguments: '{"city":"[TOOL_CALLS]</tool_call>"}' },
];

test.each(TOOL_FORMAT_NAMES)("%s: what is written is read, at every split", (name) => {
  const format = TOOL_FORMATS[name];
  const lead = format.afterText ? "Let me <tool see.\n\n" : "\n ";
  for (const calls of [CALLS, CALLS.slice(1, 2)]) {
    const text = lead + writeCalls(format, calls);
    const expected = { text: lead.trim(), calls };
    expect(parseOutput(settings(name), text)).toEqual(expected);
    for (let at = 0; at <= text.length; at++) {
      const parser = new OutputParser(settings(name));
      const parts = [text.slice(0, at), text.slice(at)].flatMap((piece) => parser.push(piece));
      expect(joinParts([...parts, ...parser.end()])).toEqual(expected);
    }
  }
});

test.each([
  ["hermes", 'Hm.\n<tool_call>\n{"name": "get_wea', { text: "Hm.", calls: [] }],
  ["hermes", "Hm. <tool_c", { text: "Hm. <tool_c", calls: [] }],
  ["hermes", "Hm.\n ", { text: "Hm.\n ", calls: [] }],
  ["llama3", '{"name": "John"}', { text: '{"name": "John"}', calls: [] }],
  [
    "llama3",
    'Hi {"name": "f", "parameters": {}}',
    { text: 'Hi {"name": "f", "parameters": {}}', calls: [] },
  ],
  [
    "json",
    '{"name": "f", "arguments": {"a": [1',
    { text: "", calls: [{ name: "f", arguments: '{"a": [1' }] },
  ],
])("%s: an output that is cut or has no call: %j", (name, text, output) => {
  expect(parseOutput(settings(name), text)).toEqual(output);
});

test.each([
  ["hermes", "Hi \n<tool_call> is a tag"],
  ["hermes", 'Hi <tool_call>\n{"name": "rm", "arguments": {}}\n</tool_call>'],
  ["hermes", '<tool_call>\n{"name": "f", "parameters": {}}\n</tool_call>'],
  ["llama3", '\u00a0{"name": "f", "parameters": {"x":1}} trailing'],
  ["json", '{"name": "rm", "arguments": {}}'],
  ["json", '{"name": "f", "parameters": {}}'],
  ["mistral-args", "[TOOL_CALLS]rm[ARGS]{}"],
])("%s: what the grammar does not hold to a call is text: %j", (name, text) => {
  expect(parseOutput(settings(name), text)).toEqual({ text, calls: [] });
});

test.each([
  ["hermes", '{"a":"<tool_call> is a tag"}'],
  ["hermes", '{"a":"<tool_call>\\n{\\"name"}'],
  ["mistral-args", '{"a":"say [TOOL_CALLS]f[ARGS]{} now"}'],
])("%s: an output in a response format has no calls: %j", (name, text) => {
  const tools = { ...settings(name), callsOnly: true };
  expect(parseOutput(tools, text)).toEqual({ text, calls: [] });
  const output = writeCalls(TOOL_FORMATS[name as "hermes"], CALLS);
  expect(parseOutput(tools, output)).toEqual({ text: "", calls: CALLS });
});

/** Pieces that calls consist of, whole and broken, and other text. */
const FRAGMENTS = [
  ...'{}[]",: \n\\x'.split(""),
  ...TOOL_FORMAT_NAMES.flatMap((name) => {
    const { trigger, open, before, after, separator, close } = TOOL_FORMATS[name];
    return [trigger, open, before, after, separator, close, writeCalls(TOOL_FORMATS[name], CALLS)];
  }),
  '{"name": "f", "arguments": ',
  '{"name": 1}',
  "[ARGS]",
  "[CALL_ID]a1",
];

test.each(TOOL_FORMAT_NAMES)("%s: any text is read the same in any pieces", (name) => {
  // The noise of a seed: a run of the test is always the same.
  const noise = new GumbelNoise(7);
  let at = 0;
  const below = (count: number) => {
    noise.seek(at++);
    return Math.floor(Math.abs(noise.at(0) * 1e6)) % count;
  };
  for (let run = 0; run < 200; run++) {
    const text = Array.from({ length: 1 + below(12) }, () => FRAGMENTS[below(FRAGMENTS.length)]);
    const whole = parseOutput(settings(name), text.join(""));
    const parser = new OutputParser(settings(name));
    const parts: OutputPart[] = [];
    for (let left = text.join(""); left !== "";) {
      const length = 1 + below(5);
      parts.push(...parser.push(left.slice(0, length)));
      left = left.slice(length);
    }
    expect(joinParts([...parts, ...parser.end()])).toEqual(whole);
  }
});
