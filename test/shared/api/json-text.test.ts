/** The JSON of requests: how deep it may be nested. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { numberText, parseSource, sourceJson } from "../../../shared/api/json-source.ts";
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

/** A JSON text without spaces, with keys and numbers that JavaScript would order or write otherwise. */
const exactJson = fc.letrec<{ value: string }>((tie) => {
  const key = fc.oneof(fc.string(), fc.nat(20).map(String), fc.constantFrom("__proto__", '\\"'));
  const digits = fc.bigInt({ min: 1n, max: 10n ** 20n }).map(String);
  const member = fc.tuple(key, tie("value"));
  const members = fc.uniqueArray(member, { selector: ([name]) => name, maxLength: 5 });
  return {
    value: fc.oneof(
      { depthSize: "small" },
      fc.constantFrom("true", "false", "null", '""', "0"),
      fc.string().map((text) => JSON.stringify(text)),
      digits,
      // JavaScript writes none of these with an exponent.
      fc
        .tuple(digits, fc.constantFrom(-400, -3, 2, 15, 400))
        .map(([fraction, exponent]) => `-0.${fraction}e${exponent}`),
      fc.array(tie("value"), { maxLength: 5 }).map((items) => `[${items.join()}]`),
      members.map((all) => `{${all.map(([a, b]) => `${JSON.stringify(a)}:${b}`).join()}}`),
    ),
  };
}).value;

test("a schema is sent on with the order and the digits of its text", () => {
  fc.assert(
    fc.property(exactJson, (text) => {
      expect(sourceJson(parseSource(`{"a":${text}}`))).toBe(`{"a":${text}}`);
      const spaced = JSON.stringify({ text }).replace(JSON.stringify(text), ` \n${text}\t`);
      expect(sourceJson(parseSource(`[ ${spaced} , 1 ]`))).toBe(`[{"text":${text}},1]`);
    }),
  );
});

test("only the numbers of schemas are exact", () => {
  const numbers = (text: string) => {
    const { a, schema } = parseJson(text, "The body") as { a: [number]; schema: [number] };
    return [numberText(a, 0), numberText(schema, 0)];
  };
  expect(numbers('{"a":[1e2],"schema":[1e2]}')).toEqual(["100", "1e2"]);
});

test("exact parts of schemas have a bound, which numbers elsewhere do not use up", () => {
  const many = (part: string, count: number) => Array<string>(count).fill(part).join();
  const body = (part: string, count: number) =>
    `{"a":[${many(part, 20_000)}],"schema":[${many(part, count)}]}`;
  for (const part of ["1e5", "12345678901234567", '{"2":1,"1":1}']) {
    expect(() => parseJson(body(part, LIMITS.exactPartsMax), "The body")).not.toThrow();
    expect(() => parseJson(body(part, LIMITS.exactPartsMax + 1), "The body")).toThrow(
      "The body has too many numbers with an exponent or more than 15 digits, and objects",
    );
  }
});

test("the digits of a number are read once, however many zeros are among them", () => {
  // In quadratic time, this would take minutes.
  const text = `{"json":{"const":1${"0".repeat(900_000)}1}}`;
  expect(parseJson(text, "The body")).toEqual({ json: { const: Infinity } });
});
