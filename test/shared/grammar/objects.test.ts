/** The properties of objects: their order, and those that a schema does not declare. */
import { describe, expect, test } from "vitest";
import { compileResponseFormat } from "../../../shared/grammar/format.ts";
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

const integersOf = (names: readonly string[]) =>
  Object.fromEntries(names.map((name) => [name, { type: "integer" }]));

describe("every key that is not declared is told from those that are declared:", () => {
  const declared = ["a", "ab", "aab", "é", 'b"', "b\n", ""];
  const properties = integersOf(declared);
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
      if (take("", key, 1) !== (isDeclared || (isOtherKey && schema === ofPattern))) return true;
      if (take("", key, "x") !== isOtherKey) return true;
      // After the last declared name, no declared one comes again.
      return isDeclared && (take('"":1,', key, 1) || take('"":1,', key, "x"));
    });
    expect(wrong).toEqual([]);
  });
});

describe("keys whose characters have several bytes are declared or others, exactly:", () => {
  const declared = "имя и 名 名前 \u0800 \u{10000}a \u{10ffff} \u{1f600}\u{1f601}".split(" ");
  // Most of them begin with the same byte as a declared name, or as its next character.
  const others = [
    ..."возраст имени им имя2 я ип п 年齢 国 名字 名前名 吉 é \u0801 \u0fff \u1000".split(" "),
    ..."\u{10000} \u{10001}a \u{3ffff} \u{40000} \u{100000}".split(" "),
    ..."\u{1f600} \u{1f600}\u{1f602} \u{1f600}a \u{1f600}\u{1f601}a".split(" "),
  ];
  const properties = integersOf(declared);
  const pattern = { "^[и-я]*$": {}, "[^и-я]": {} };

  test.each<[of: string, schema: object, otherValues: string]>([
    ["any keys", { additionalProperties: { type: "string" } }, '"x"'],
    ["keys of patterns", { patternProperties: pattern, additionalProperties: false }, '1 "x"'],
  ])("%s", (_of, more, otherValues) => {
    const matcher = matcherOf(schemaFormat({ type: "object", properties, ...more }));
    const values = (key: string) =>
      ["1", '"x"'].filter((value) => accepts(matcher, `{${JSON.stringify(key)}:${value}}`));
    expect(declared.filter((key) => values(key).join(" ") !== "1")).toEqual([]);
    expect(others.filter((key) => values(key).join(" ") !== otherValues)).toEqual([]);
  });
});

test("a declared key has no second spelling that counts as another key", () => {
  const properties = integersOf(["a\n", 'b"', "é", "\u001f", "\ud800"]);
  const schema = { type: "object", properties, additionalProperties: { type: "string" } };
  const matcher = matcherOf(schemaFormat(schema));
  const others = (keys: string) =>
    keys.split(" ").filter((key) => accepts(matcher, `{"${key}":"x"}`));
  const declared = String.raw`a\n a\u000a a\u000A b\" b\u0022 é \u00e9 \u001f \u001F \ud800 \uD800`;
  expect(others(declared)).toEqual([]);
  const different = String.raw`a\t a\u000b b\\ \u001e \" è`;
  expect(others(different)).toEqual(different.split(" "));
});

describe("minProperties counts properties that are not declared as one, and is refused if they would have to differ:", () => {
  const integer = { type: "integer" };
  const map = { type: "object", additionalProperties: integer, minProperties: 2 };
  const counted = /is supported up to \d here: .* count as one/;

  test.each<[schema: object, path: string]>([
    [{ type: "object", minProperties: 2 }, ""],
    [{ minProperties: 2 }, ""],
    [map, ""],
    [{ ...map, required: ["a"], minProperties: 3 }, ""],
    [{ ...map, properties: { a: integer, b: false }, minProperties: 3 }, ""],
    [{ type: "object", patternProperties: { "^k": integer }, minProperties: 2 }, ""],
    [{ type: "object", propertyNames: { pattern: "^k[01]$" }, minProperties: 2 }, ""],
    [{ type: "object", properties: { a: map }, required: ["a"] }, ".properties.a"],
    [{ type: "object", properties: { a: map } }, ".properties.a"],
    [{ type: "array", items: map }, ".items"],
    [{ anyOf: [{ type: "string" }, map] }, ".anyOf.1"],
    [{ oneOf: [map, { type: "string" }] }, ".oneOf.0"],
    [{ allOf: [{ type: "object" }, { minProperties: 2 }] }, ".allOf.1"],
    [{ $ref: "#/$defs/map", $defs: { map } }, ".$defs.map"],
  ])("%j", (schema, path) => {
    for (const strict of [false, true]) {
      const json_schema = { name: "n", schema: schema as Record<string, unknown>, strict };
      expect(() => compileResponseFormat({ type: "json_schema", json_schema })).toThrow(
        expect.objectContaining({
          param: `response_format.json_schema.schema${path}.minProperties`,
          message: expect.stringMatching(counted) as string,
        }),
      );
    }
  });

  test.each<[schema: object, texts: string[], others: string[]]>([
    [
      { ...map, properties: { a: integer } },
      ['{"a":1,"b":1}', '{"a":1,"b":1,"b":1}'],
      ['{"a":1}', '{"b":1,"b":1}'],
    ],
    [
      { type: "object", propertyNames: { enum: ["a", "b"] }, minProperties: 2 },
      ['{"a":1,"b":1}'],
      ['{"a":1}'],
    ],
    // These allow no object, so nothing that is supported is left out.
    [{ anyOf: [{ type: "null" }, { ...map, maxProperties: 1 }] }, ["null"], ['{"a":1}', "{}"]],
    [
      { anyOf: [{ type: "null" }, { ...map, additionalProperties: false }] },
      ["null"],
      ['{"a":1}', "{}"],
    ],
    // A negation leaves out what it cannot express.
    [
      { type: "object", not: { required: ["a"], maxProperties: 1 } },
      ["{}", '{"b":1}'],
      ['{"a":1}'],
    ],
  ])("%j", (schema, texts, others) => {
    const matcher = matcherOf(schemaFormat(schema));
    expect(texts.filter((text) => !accepts(matcher, text))).toEqual([]);
    expect(others.filter((text) => accepts(matcher, text))).toEqual([]);
  });

  test("a schema that is empty because a negation was left out is refused with the negated keyword", () => {
    const schema = { type: "object", not: { maxProperties: 1 } };
    expect(() => compileResponseFormat(schemaFormat(schema))).toThrow(
      "response_format.json_schema.schema.not.maxProperties cannot be negated here",
    );
  });

  test("with strict, properties that cannot be written do not count", () => {
    const properties = { a: false, b: false, c: integer };
    const schema = { type: "object", properties, minProperties: 2 };
    const json_schema = { name: "n", schema, strict: true };
    expect(accepts(matcherOf({ type: "json_schema", json_schema }), '{"c":1,"d":1}')).toBe(true);
  });
});
