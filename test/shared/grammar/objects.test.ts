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

describe("every key that is not declared is told from those that are declared:", () => {
  const declared = ["a", "ab", "aab", "é", 'b"', "b\n", ""];
  const properties = Object.fromEntries(declared.map((name) => [name, { type: "integer" }]));
  const open = { type: "object", properties, additionalProperties: { type: "string" } };
  const ofPattern = {
    properties,
    patternProperties: { "^[aé]*$": {} },
    additionalProperties: false,
  };
  const isAny = () => true;
  const characters = ["a", "b", "é", "è", '"', "\n", "\\", "語"];
  const keys = [""];
  for (let i = 0; keys.at(i)!.length < 3; i++) {
    keys.push(...characters.map((character) => keys[i]! + character));
  }

  test.each<[of: string, schema: object, isOther: (key: string) => boolean]>([
    ["any keys", open, isAny],
    [
      "two objects",
      { anyOf: [open, { ...open, properties: { a: { type: "integer" } }, required: ["a"] }] },
      isAny,
    ],
    ["keys of a pattern", ofPattern, (key) => /^[aé]*$/u.test(key)],
  ])("%s", (_of, schema, isOther) => {
    const matcher = matcherOf(schemaFormat(schema));
    const take = (before: string, key: string, value: unknown) =>
      accepts(matcher, `{${before}${JSON.stringify(key)}:${JSON.stringify(value)}}`);
    const wrong = keys.filter((key) => {
      const isDeclared = declared.includes(key);
      const isOtherKey = isOther(key) && !isDeclared;
      // Where a declared name has a character of several bytes, keys with others that begin with the same byte are left out.
      if (isOtherKey && !/^[ab]*$/.test(key)) return false;
      if (take("", key, 1) !== (isDeclared || (isOtherKey && schema === ofPattern))) return true;
      if (take("", key, "x") !== isOtherKey) return true;
      // After the last declared name, no declared one comes again.
      return isDeclared && (take('"":1,', key, 1) || take('"":1,', key, "x"));
    });
    expect(wrong).toEqual([]);
  });
});
