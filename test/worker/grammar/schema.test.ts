/** Schemas as grammars, with an independent validator as the judge. */
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { grammarOf } from "../../../shared/grammar/format.ts";
import { accepts, anyText, matcherOf, schemaFormat } from "../../support/grammar.ts";

// Every object inherits a property "constructor".
const ajv = new Ajv2020({ strict: false, ownProperties: true });
// @ts-expect-error: a CommonJS module whose types say that it is none
formats(ajv);

const between = (keywords: [string, string], arbitrary: fc.Arbitrary<number>, spanMax: number) =>
  fc.tuple(arbitrary, fc.nat(spanMax), fc.constantFrom(0, 1, 2, 3)).map(([min, span, which]) => ({
    ...(which & 1 && { [keywords[0]]: min }),
    ...(which & 2 && { [keywords[1]]: min + span }),
  }));

const bounds = between(["minimum", "maximum"], fc.integer({ min: -2000, max: 2000 }), 3000);
const leaf: fc.Arbitrary<object> = fc.oneof(
  fc.constantFrom({}, { type: "null" }, { type: "boolean" }, { type: ["string", "null"] }),
  bounds.map((limits) => ({ type: "integer", ...limits })),
  bounds.map((limits) => ({ type: "number", ...limits })),
  between(["minLength", "maxLength"], fc.nat(4), 6).map((limits) => ({
    type: "string",
    ...limits,
  })),
  fc
    .constantFrom("^[a-z]{2,5}$", "\\d+(?:\\.\\d)?", 'a"?.\\\\b*', "[^a-z]{1,3}", "(?:é|😀)+")
    .map((pattern) => ({ type: "string", pattern })),
  fc
    .constantFrom("date", "time", "date-time", "uuid", "ipv4", "email")
    .map((format) => ({ type: "string", format })),
  fc.array(fc.jsonValue({ maxDepth: 1 }), { minLength: 1, maxLength: 3 }).map((values) => ({
    enum: values,
  })),
);
const NAMES = ["name", "a b", 'q"uote', "é", "constructor", "0"];
const { schema } = fc.letrec<{ schema: object }>((tie) => ({
  schema: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    leaf,
    fc
      .record({
        properties: fc.dictionary(fc.constantFrom(...NAMES), tie("schema"), { maxKeys: 4 }),
        optional: fc.subarray(NAMES),
      })
      .map(({ properties, optional }) => ({
        type: "object",
        properties,
        required: Object.keys(properties).filter((name) => !optional.includes(name)),
      })),
    tie("schema").map((values) => ({ type: "object", additionalProperties: values })),
    fc
      .tuple(tie("schema"), between(["minItems", "maxItems"], fc.nat(2), 2))
      .map(([items, limits]) => ({ type: "array", items, ...limits })),
    fc
      .tuple(fc.array(tie("schema"), { minLength: 1, maxLength: 2 }), fc.boolean(), tie("schema"))
      .map(([prefixItems, isClosed, items]) => ({
        type: "array",
        prefixItems,
        items: isClosed ? false : items,
      })),
    fc
      .array(tie("schema"), { minLength: 1, maxLength: 3 })
      .map((branches) => ({ anyOf: branches })),
  ),
}));

test("every text of a schema's grammar is JSON that validates", { timeout: 120_000 }, () => {
  let finished = 0;
  fc.assert(
    fc.property(schema, fc.nat(), (schema, seed) => {
      const text = anyText(matcherOf(schemaFormat(schema)), seed);
      if (text === null) return;
      finished++;
      const errors = ajv.validate(schema, JSON.parse(text)) ? null : ajv.errorsText();
      expect({ text, errors }).toEqual({ text, errors: null });
    }),
    { numRuns: 300 },
  );
  expect(finished).toBeGreaterThan(200);
});

const person = {
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer" }, tags: { type: "array" } },
  required: ["name"],
};
const tree = {
  $defs: {
    node: { anyOf: [{ type: "null" }, { type: "array", items: { $ref: "#/$defs/node" } }] },
  },
  $ref: "#/$defs/node",
};

test.each<[schema: object, texts: string[], others: string[]]>([
  [
    person,
    [
      '{"name":"a"}',
      '{"name": "\\u00e9\\n", "age":0, "tags":[1,{"b":[]}]}',
      '{"name":"","tags":[]}',
    ],
    ["{}", '{"age":1}', '{"name":"a","age":01}', '{"name":"a",}', '{"name":"a"} ', '{"name":"\t"}'],
  ],
  [tree, ["null", "[]", "[null,[[],null]]"], ["[", "[1]", "[null,]"]],
  [
    { type: "array", prefixItems: [{ const: 1 }], items: { const: 2 } },
    ["[1]", "[1, 2,2]"],
    ["[]", "[1,]"],
  ],
  [
    { type: "string", minLength: 2, maxLength: 3 },
    ['"ab"', '"\\"é😀"'],
    ['"a"', '"abcd"', '"\\ud83d\\ude00"'],
  ],
  [{ type: "string", pattern: '"' }, ['"\\""'], ['"""', '""']],
  [
    { type: "integer", minimum: -12, maximum: 105 },
    ["-12", "-1", "0", "99", "105"],
    ["-13", "-0", "106", "007"],
  ],
  [{ type: "number", minimum: 0, maximum: 1 }, ["0", "1", "0.25"], ["-0.5", "1.5", "2"]],
  [{ type: "string", format: "date" }, ['"2024-12-31"'], ['"2024-02-30"', '"2024-13-01"']],
  [{ allOf: [{ $ref: "#/$defs/a" }], $defs: { a: { enum: ["x", 1.5] } } }, ['"x"', "1.5"], ["1"]],
])("%j", (schema, texts, others) => {
  const matcher = matcherOf(schemaFormat(schema));
  expect(texts.filter((text) => !accepts(matcher, text))).toEqual([]);
  expect(others.filter((text) => accepts(matcher, text))).toEqual([]);
});

test("json_object is any object, and nothing else", () => {
  const matcher = matcherOf({ type: "json_object" });
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 3 }), (value) => {
      const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
      const text = JSON.stringify(value);
      // Numbers of more digits than any reader keeps are left out.
      fc.pre(!/\d{16}|e[+-]\d{3}/.test(text));
      expect(accepts(matcher, text)).toBe(isObject);
    }),
  );
});

describe("what cannot be held to is refused by name:", () => {
  test.each<[schema: object, path: string]>([
    [{ type: "string", not: {} }, ".not"],
    [
      { type: "object", properties: { a: { type: "number", multipleOf: 2 } } },
      ".properties.a.multipleOf",
    ],
    [{ oneOf: [{}] }, ".oneOf"],
    [{ anyOf: [{}], type: "string" }, ".type"],
    [{ allOf: [{}, {}] }, ".allOf"],
    [{ $ref: "https://example.com/x" }, ".$ref"],
    [{ $ref: "#/$defs/none" }, ".$ref"],
    [{ $ref: "#/$defs/%" }, ".$ref"],
    [{ type: "any" }, ".type"],
    [{ type: "string", minimum: 1 }, ".minimum"],
    [{ type: "string", format: "hostname" }, ".format"],
    [{ type: "string", pattern: "a", minLength: 1 }, ""],
    [{ type: "string", pattern: "(" }, ".pattern"],
    [{ type: "string", pattern: "a(?=b)" }, ".pattern"],
    [{ type: "string", minLength: 3, maxLength: 2 }, ".maxLength"],
    [{ type: "integer", minimum: 2, maximum: 1 }, ".minimum"],
    [{ type: "number", minimum: 0.5 }, ".minimum"],
    [{ type: "number", exclusiveMinimum: 0 }, ".exclusiveMinimum"],
    [{ type: "array", items: { type: "string" }, uniqueItems: true }, ".uniqueItems"],
    [{ type: "array", items: false, minItems: 1 }, ".minItems"],
    [{ type: "object", properties: {}, required: ["a"] }, ".required"],
    [{ type: "object", properties: { a: false } }, ".properties.a"],
    [{ type: "object", patternProperties: {} }, ".patternProperties"],
    [{ enum: [] }, ".enum"],
    [{ type: "string", enum: ["a", 1] }, ".enum"],
    [{ type: "string", maxLength: 1_000_000 }, ""],
  ])("%j", (schema, path) => {
    const param = `response_format.json_schema.schema${path}`;
    expect(() => grammarOf(schemaFormat(schema))).toThrow(expect.objectContaining({ param }));
  });
});
