/** JSON Schemas as grammars, checked with an independent validator (ajv). */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseJson } from "../../../shared/api/json-text.ts";
import { compileResponseFormat } from "../../../shared/grammar/format.ts";
import { accepts, matcherOf, schemaFormat } from "../../support/grammar.ts";
import { generated, jsonValues, judged, schemas } from "../../support/schemas.ts";

test("every text of a schema's grammar is valid JSON for the schema", { timeout: 120_000 }, () => {
  let finished = 0;
  fc.assert(
    fc.property(schemas, fc.nat(), (schema, seed) => {
      const result = generated(schema, seed);
      if (result === null) return;
      finished++;
      expect(result).toEqual({ text: result.text, errors: null });
    }),
    { numRuns: 250 },
  );
  expect(finished).toBeGreaterThan(100);
});

test("a value is accepted only if it is valid", { timeout: 120_000 }, () => {
  const counts = { valid: 0, accepted: 0 };
  fc.assert(
    fc.property(schemas, jsonValues, (schema, values) => {
      for (const { value, isValid, isAccepted } of judged(schema, values)) {
        expect({ value, isAccepted: isAccepted && !isValid }).toEqual({ value, isAccepted: false });
        counts.valid += Number(isValid);
        counts.accepted += Number(isAccepted);
      }
    }),
    { numRuns: 150 },
  );
  expect(counts.accepted).toBeGreaterThan(counts.valid / 3);
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

// The texts that are no date cannot be written, so it must not look as if the branches had nothing in common.
test("branches of oneOf whose negation leaves out values are not taken for disjoint", () => {
  const one = { type: "string", pattern: "^[^a-z]{1,3}$" };
  const two = { if: { type: "string", format: "date" }, then: { type: "number" }, else: one };
  const matcher = matcherOf(schemaFormat({ oneOf: [one, two, { type: "integer" }] }));
  expect(accepts(matcher, '"1"')).toBe(false);
  expect(accepts(matcher, "1")).toBe(true);
});

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
    ["[]", "[1]", "[1, 2,2]"],
    ["[2]", "[1,]"],
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
  [{ type: "integer" }, ["1234567890123456789", "-1700000000000000"], ["1.0", "1e3", "00"]],
  [
    { type: "number", exclusiveMinimum: 0, maximum: 2.5 },
    ["0.1", "1", "2.5", "2.49", "2.50"],
    ["0", "0.0", "2.51", "3", "-1"],
  ],
  [{ type: "number", multipleOf: 0.01 }, ["0.07", "1.1", "-3", "12345.67"], ["0.001", "1.005"]],
  [{ type: "integer", multipleOf: 5, minimum: 12 }, ["15", "20", "105"], ["10", "5", "16", "0"]],
  [{ type: "string", pattern: "^https?://" }, ['"http://a/\\n"', '"https://"'], ['"ftp://a"']],
  [{ type: "string", pattern: "foo", maxLength: 5 }, ['"foo"', '"afoob"'], ['"fo"', '"abfooc"']],
  [
    { type: "string", format: "email", pattern: "^(?!\\.)(?!.*\\.\\.).+@example\\.com$" },
    ['"a.b@example.com"'],
    ['".a@example.com"', '"a@example.org"'],
  ],
  [
    { type: "object", properties: { b: { type: "integer" }, a: {} }, required: ["c"] },
    ['{"b":1,"a":2,"c":3,"d":4}', '{"c": null}', '{"b":1,"c":2,"bb":{}}'],
    ['{"a":2,"b":1,"c":3}', '{"b":1}', '{"c":1,"b":1}', '{"c":1,"c":1}'],
  ],
  [
    {
      type: "object",
      patternProperties: { "^x-": { type: "integer" } },
      additionalProperties: { type: "string" },
      minProperties: 1,
    },
    ['{"x-a":1,"b":"c"}', '{"y":""}'],
    ["{}", '{"x-a":"1"}', '{"y":1}'],
  ],
  [
    {
      oneOf: [
        { type: "object", properties: { kind: { const: "a" } }, required: ["kind"] },
        { type: "object", properties: { kind: { const: "b" }, n: {} }, required: ["kind", "n"] },
      ],
    },
    ['{"kind":"a"}', '{"kind":"b","n":1}'],
    ['{"kind":"b"}', '{"kind":"c"}'],
  ],
  [
    {
      oneOf: [
        { properties: { a: {} }, required: ["a"], additionalProperties: false },
        { properties: { a: {}, b: {} }, required: ["a", "b"], additionalProperties: false },
      ],
    },
    ['{"a":1}', '{"a":1,"b":1}'],
    ['{"b":1}', "{}", "1"],
  ],
  [
    {
      oneOf: [
        { type: "string" },
        { type: "object", properties: { a: {}, b: {} }, additionalProperties: false },
        { type: "object", properties: { c: {} }, additionalProperties: false },
        { type: "object", properties: { b: {}, d: {} }, additionalProperties: false },
      ],
    },
    ['{"a":1}', '{"a":1,"b":1}', '{"c":1}', '{"d":1}', '""'],
    ["{}", '{"b":1}', '{"a":1,"c":1}', "1"],
  ],
  [
    { type: "number", multipleOf: 0.01, minimum: -1.5, exclusiveMaximum: 99_999_999_999.99 },
    ["1000.45", "100", "0", "-1.5", "-1.49", "-0.01", "99999999999.98", "0.1", "12.30", "7.00"],
    ["-1.51", "99999999999.99", "0.001", "-2", "1e2", "01"],
  ],
  [
    { type: "number", multipleOf: 0.1, minimum: 1.25, maximum: 3.31 },
    ["1.3", "2", "3.3"],
    ["1.2", "1", "3.4", "4"],
  ],
  [{ required: [], properties: {} }, ['"a"', "1", "{}", '{"a":1}'], ["x"]],
  [
    {
      type: "object",
      properties: { a: { type: "boolean" }, b: { type: "integer" } },
      if: { properties: { a: { const: true } }, required: ["a"] },
      // eslint-disable-next-line unicorn/no-thenable
      then: { required: ["b"] },
    },
    ["{}", '{"a":true,"b":1}', '{"a":false}'],
    ['{"a":true}'],
  ],
  [
    { type: "array", items: { enum: ["a", "b", "c"] }, uniqueItems: true, minItems: 1 },
    ['["b","a"]', '["c"]'],
    ["[]", '["a","a"]'],
  ],
  [
    {
      $id: "https://a.example/root",
      $ref: "item",
      $defs: { x: { $id: "item", $anchor: "y", const: 1 } },
    },
    ["1"],
    ["2"],
  ],
  [
    {
      $schema: "http://json-schema.org/draft-07/schema#",
      $ref: "#/definitions/a",
      const: 1,
      definitions: {
        a: { type: "array", items: { $ref: "#/definitions/b/definitions/c", maximum: 1 } },
        b: { $ref: "#/definitions/a", definitions: { c: { type: "integer" } } },
      },
    },
    ["[]", "[2]"],
    ["1", '["2"]'],
  ],
  [
    parseJson('{"enum": [1e400, [2.5e1]]}', "The schema", { isSchema: true }) as object,
    ["1e400", "[2.5e1]", "[25]"],
    ["1", "[2.5]"],
  ],
  [{ $ref: "#/$defs/a", maximum: 1, $defs: { a: { type: "integer" } } }, ["1"], ["2"]],
  [{ type: "string", not: { enum: ["a", "ab"] } }, ['""', '"b"', '"abc"'], ['"a"', '"ab"', "1"]],
  [{ type: "string", example: "x", "x-order": 1, format: "int32" }, ['"a"'], ["1"]],
  [{ format: "positiveInteger" }, ["1", '"a"', "{}"], []],
  [{ format: "date" }, ['"2024-12-31"'], ["1", '"a"']],
  [{ allOf: [{ $ref: "#/$defs/a" }], $defs: { a: { enum: ["x", 1.5] } } }, ['"x"', "1.5"], ["1"]],
])("%j", (schema, texts, others) => {
  const matcher = matcherOf(schemaFormat(schema));
  expect(texts.filter((text) => !accepts(matcher, text))).toEqual([]);
  expect(others.filter((text) => accepts(matcher, text))).toEqual([]);
});

test("json_object accepts exactly the JSON objects", () => {
  const matcher = matcherOf({ type: "json_object" });
  fc.assert(
    fc.property(fc.jsonValue({ maxDepth: 3 }), (value) => {
      const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
      const text = JSON.stringify(value);
      // The grammar has no numbers with more digits than JSON readers keep.
      fc.pre(!/\d{16}|e[+-]\d{3}/.test(text));
      expect(accepts(matcher, text)).toBe(isObject);
    }),
  );
});

describe("a schema that cannot be enforced is refused, with its path:", () => {
  test.each<[schema: object, path: string]>([
    [{ unevaluatedItems: false }, ".unevaluatedItems"],
    [{ items: { $dynamicRef: "#a" } }, ".items.$dynamicRef"],
    [{ type: "array", items: { type: "string" }, uniqueItems: true }, ".uniqueItems"],
    [{ $ref: "https://example.com/x" }, ".$ref"],
    [{ $ref: "#/$defs/none" }, ".$ref"],
    [{ $ref: "#none" }, ".$ref"],
    [{ $ref: "#/$defs/%" }, ".$ref"],
    [{ type: "any" }, ".type"],
    [{ type: "string", format: "regex" }, ".format"],
    [{ type: "string", pattern: "(" }, ".pattern"],
    [{ type: "string", pattern: "a(?=bc)b" }, ".pattern"],
    [{ type: "string", pattern: "(a)\\1" }, ".pattern"],
    [{ type: "string", minLength: 3, maxLength: 2 }, ""],
    [{ type: "string", minLength: -1 }, ".minLength"],
    [{ type: "integer", minimum: 2, maximum: 1 }, ""],
    [{ type: "number", multipleOf: 0 }, ".multipleOf"],
    [{ type: "array", items: false, minItems: 1 }, ".items"],
    [{ type: "object", properties: { a: false }, required: ["a"] }, ".properties.a"],
    [
      { type: "object", properties: { a: {} }, required: ["b"], additionalProperties: false },
      ".properties.b",
    ],
    [{ oneOf: [{}, {}] }, ""],
    [{ not: { format: "date" } }, ".not"],
    [{ enum: [] }, ""],
    [{ type: "string", enum: [1] }, ""],
    [{ type: "string", pattern: "(?:a{99}b?){999}" }, ".pattern"],
    [{ properties: { a: { pattern: "a".repeat(1_025) } } }, ".properties.a.pattern"],
    [{ $ref: "#" }, ""],
  ])("%j", (schema, path) => {
    const param = `response_format.json_schema.schema${path}`;
    expect(() => compileResponseFormat(schemaFormat(schema))).toThrow(
      expect.objectContaining({ param }),
    );
  });
});
