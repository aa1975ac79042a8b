/** The JSON of requests: how deep it may be nested. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { parseJson } from "../../../shared/api/json-text.ts";
import { LIMITS } from "../../../shared/api/limits.ts";

const arrays = (depth: number) => "[".repeat(depth) + "]".repeat(depth);
const objects = (depth: number) => '{"a":'.repeat(depth) + "1" + "}".repeat(depth);

test.each([arrays, objects])("a value may be nested to the limit", (nested) => {
  expect(() => parseJson(nested(LIMITS.jsonDepthMax), "The body")).not.toThrow();
  for (const depth of [LIMITS.jsonDepthMax + 1, 100_000]) {
    expect(() => parseJson(nested(depth), "The body")).toThrow(
      "The body is nested too deep: at most 128 arrays and objects within each other",
    );
  }
});

test("brackets in strings and side by side do not count", () => {
  const brackets = "[{".repeat(200);
  const values = [
    brackets,
    `\\${brackets}`,
    `"${brackets}\\"`,
    Array.from({ length: 500 }, () => []),
  ];
  for (const value of values) expect(parseJson(JSON.stringify(value), "x")).toEqual(value);
});

test("a value is the one that JSON.parse gives", () => {
  fc.assert(
    fc.property(fc.json(), (text) => {
      expect(parseJson(text, "The line")).toEqual(JSON.parse(text));
    }),
  );
  expect(() => parseJson('{"a":', "The line")).toThrow("The line is not valid JSON");
});
