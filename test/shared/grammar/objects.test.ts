/** The properties of objects: their order, and those that a schema does not declare. */
import { describe, expect, test } from "vitest";
import { accepts, matcherOf, schemaFormat } from "../../support/grammar.ts";

describe("properties come in the order in which the schema names them:", () => {
  const [a, b] = [{ properties: { a: {} } }, { properties: { b: {} } }];
  const required = { required: ["a", "b"], type: "object" };
  test.each<[schema: object, isFirstA: boolean]>([
    [{ ...required, ...a, allOf: [b] }, true],
    [{ ...required, allOf: [b], ...a }, false],
    [{ ...required, $ref: "#/$defs/b", ...a, $defs: { b } }, false],
    [{ ...required, anyOf: [b, { properties: { b: { const: 1 } } }], ...a }, false],
    [{ ...required, allOf: [b, a] }, false],
    [{ ...required, dependentRequired: { b: ["a"] }, ...a, allOf: [b] }, true],
    [{ ...required, allOf: [b] }, false],
  ])("%j", (schema, isFirstA) => {
    const matcher = matcherOf(schemaFormat(schema));
    expect(accepts(matcher, '{"a":1,"b":1}')).toBe(isFirstA);
    expect(accepts(matcher, '{"b":1,"a":1}')).toBe(!isFirstA);
  });
});

test("with strict, objects that declare properties have no others, unless a keyword speaks of them", () => {
  const schema = {
    type: "object",
    properties: {
      a: { type: "object", properties: { x: {} } },
      map: { type: "object" },
      open: { type: "object", properties: { x: {} }, additionalProperties: true },
    },
  };
  const matcher = matcherOf({
    type: "json_schema",
    json_schema: { name: "n", schema, strict: true },
  });
  for (const text of ['{"a":{"x":1}}', '{"map":{"y":1},"open":{"x":1,"y":1}}']) {
    expect(accepts(matcher, text)).toBe(true);
  }
  for (const text of ['{"b":1}', '{"a":{"y":1}}']) {
    expect(accepts(matcher, text)).toBe(false);
    expect(accepts(matcherOf(schemaFormat(schema)), text)).toBe(true);
  }
});
