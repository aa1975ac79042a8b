/** Response formats that are made to cost processor time, one of each family: steps must be counted for all that is done. */
import type { ResponseFormat } from "../../shared/api/response-formats.ts";
import { compileResponseFormat } from "../../shared/grammar/format.ts";
import type { Grammar } from "../../shared/grammar/rules/grammar.ts";

/** Takes the whole budget, and is refused. */
export const WHOLE_BUDGET: ResponseFormat = {
  type: "regex",
  pattern: "([a-z ]{0,63}|[a-q ]{0,63}){0,63}",
};

const each = <T>(count: number, make: (i: number) => T) =>
  Array.from({ length: count }, (_, i) => make(i));
const words = (count: number) => each(count, (i) => `v${i}`);
const members = (names: readonly string[], make: (i: number) => unknown) =>
  Object.fromEntries(names.map((name, i) => [name, make(i)]));
const STRING = { type: "string" };
/** As strings, so that they keep their exponents. */
const power = (factor: number, exponent: number) => Number(`${factor}e${exponent}`);
const object = (names: readonly string[], more: object = {}) => ({
  type: "object",
  properties: members(names, () => STRING),
  ...more,
});

const SCHEMAS: readonly (readonly [name: string, schema: object])[] = [
  ["5,000 numbers in enum", { enum: each(5_000, (i) => i) }],
  ["20,000 strings in enum", { enum: words(20_000) }],
  ["1,500 objects in enum", { enum: each(1_500, (i) => ({ a: i, b: [`x${i}`, i] })) }],
  ["4,000 numbers of 280 digits in enum", { enum: each(4_000, (i) => power(i, 280)) }],
  ["enum within enum", { allOf: each(5, () => ({ enum: each(5_000, (i) => i) })) }],
  [
    "enum beside 900 others",
    { enum: words(2_000), anyOf: words(900).map((word) => ({ enum: [word] })) },
  ],
  ["enum without another one", { enum: words(5_000), not: { enum: words(4_000) } }],
  ["names of an enum", { type: "object", propertyNames: { enum: words(20_000) } }],
  ["names that are no members of an enum", { propertyNames: { not: { enum: words(900) } } }],
  ["names of 2 billion characters", { propertyNames: { minLength: 2e9, pattern: "a" } }],
  ["300 properties", object(words(300))],
  ["3,000 properties", object(words(3_000))],
  ["3,000 required properties", object(words(3_000), { required: words(3_000) })],
  ["1,000 properties, of which the last is required", object(words(1_000), { required: ["v999"] })],
  [
    "1,000 properties of different letters",
    object(each(1_000, (i) => String.fromCodePoint(0x4e00 + 2 * i))),
  ],
  [
    "properties whose names have a long beginning in common",
    object(each(20, (i) => `${"a".repeat(1_000)}${i}`)),
  ],
  [
    "required properties of constants",
    { required: words(5_000), enum: each(5_000, (i) => ({ v0: i })) },
  ],
  ["an array of 30,000 different items", { uniqueItems: true, const: each(30_000, (i) => i) }],
  [
    "a constant of 60 levels",
    { const: each(60, (i) => i).reduce<object>((inner) => ({ a: inner }), {}) },
  ],
  [
    "8,000 items with schemas of their own",
    { type: "array", minItems: 8_000, prefixItems: each(8_000, () => STRING) },
  ],
  ["allOf of 10,000 schemas", { allOf: each(10_000, (i) => ({ minLength: i })) }],
  ["allOf of 300 objects", { allOf: words(300).map((word) => object([word])) }],
  ["allOf of 300 patterns", { type: "string", allOf: words(300).map((pattern) => ({ pattern })) }],
  ["oneOf of 300 constants", { oneOf: each(300, (i) => ({ const: i })) }],
  [
    "oneOf of 100 objects",
    { oneOf: words(100).map((word) => object([word], { required: [word] })) },
  ],
  [
    "oneOf of wide objects",
    { oneOf: each(5, () => object(words(1_000), { required: words(1_000) })) },
  ],
  ["not required", { type: "object", not: { required: words(900) } }],
  ["dependentRequired", { type: "object", dependentRequired: { a: words(20_000) } }],
  [
    "100 patterns of names",
    object(words(300), { patternProperties: members(words(30), () => STRING) }),
  ],
  [
    "references within references",
    {
      $ref: "#/$defs/v0",
      $defs: members(words(61), (i) => ({
        anyOf: [{ $ref: `#/$defs/v${i + 1}` }, { $ref: `#/$defs/v${i + 1}` }],
      })),
    },
  ],
  [
    "multiples of 1e-300",
    { type: "number", allOf: each(1_000, (i) => ({ multipleOf: power(2 * i + 1, -300) })) },
  ],
  [
    "bounds of hundreds of digits",
    object([], {
      properties: members(words(1_000), (i) => ({
        type: "number",
        minimum: power(i, -250),
        exclusiveMaximum: power(i, 250),
      })),
      additionalProperties: false,
    }),
  ],
  [
    "20,000 unknown keywords, often",
    {
      ...members(words(10_000), (i) => i),
      items: { $ref: "#" },
      oneOf: each(100, (i) => ({ const: i })),
    },
  ],
];

const lines = (count: number, make: (i: number) => string) => each(count, make).join("\n");

const many = (count: number, part: string, between = "|") => each(count, () => part).join(between);
/** Alternatives of the rule a. */
const BOTH_SIDES = `${many(8_000, "a a")}|${many(8_000, '"x"')}`;
/** The last one has 200,000 parts. */
const DOUBLING_TERMINALS = `A0: "x"\n${lines(16, (i) => `A${i + 1}: A${i} A${i}`)}`;
const nested = (part: string) => `${"(".repeat(60)}${part}${"+)".repeat(60)}`;

const GRAMMARS: readonly (readonly [name: string, grammar: string])[] = [
  [
    "GBNF: 1,000 rules that begin with the next",
    `root ::= r0\n${lines(1_000, (i) => `r${i} ::= r${i + 1}?`)}\nr1000 ::= "z"`,
  ],
  ["GBNF: 5,000 optional parts", `root ::= ${each(5_000, () => '"a"?').join(" ")}`],
  ["GBNF: 10,000 equal alternatives", `root ::= ${each(10_000, () => ".").join("|")}`],
  ["GBNF: a comment of many marks", `root ::= "a" ${"#".repeat(60_000)}\r`],
  ["GBNF: left recursion on both sides", `root ::= a\na ::= ${BOTH_SIDES}`],
  ["GBNF: left recursion", `root ::= ${each(6_000, () => 'root "a"').join(" | ")} | "b"`],
  [
    "Lark: 6,000 alternatives",
    `start: ${words(6_000)
      .map((word) => `"${word}"`)
      .join("|")}`,
  ],
  ["Lark: 3,000 patterns of all letters", `start: ${each(3_000, () => "/\\p{L}/i").join(" ")}`],
  [
    "Lark: a terminal of 10,000 optional parts",
    `start: A\nA: ${each(8_000, () => '"a"i?').join(" ")}`,
  ],
  [
    "Lark: a terminal that doubles",
    `start: T0\n${lines(40, (i) => `T${i}: T${i + 1} T${i + 1}`)}\nT40: "a"`,
  ],
  ["Lark: 18,000 large terminals", `start: Z\n${DOUBLING_TERMINALS}\nZ: ${many(18_000, "A16")}`],
  ["Lark: 100 large terminals", `start: Z\n${DOUBLING_TERMINALS}\nZ: ${many(100, "A10")}`],
  [
    "Lark: 200 terminals of many levels",
    `start: Z\nZ: ${many(200, "A0", " ")}\n${lines(3, (i) => `A${i}: ${nested(`A${i + 1}`)}`)}\nA3: ${many(150, '"x"')}`,
  ],
  ["Lark: left recursion on both sides", `start: a\na: ${BOTH_SIDES}`],
  ["Lark: a pattern of 60,000 brackets", `start: /${"[".repeat(60_000)}/`],
  ["Lark: patterns of 1,000 brackets", `start: ${many(60, `/${"[".repeat(1_000)}/`, " ")}`],
  ["Lark: patterns of dots", `start: ${many(300, `/${".".repeat(200)}/`, " ")}`],
  ["Lark: comments of many marks", `start: a\n${many(300, `a ${"#".repeat(200)}`, "\n")}`],
];

export const COSTLY_FORMATS: readonly (readonly [name: string, format: ResponseFormat])[] = [
  ...SCHEMAS.map(([name, schema]) => {
    const format = { type: "json_schema", json_schema: { name: "costly", schema } };
    // As requests have them: equal schemas within it are objects of their own.
    return [name, JSON.parse(JSON.stringify(format)) as ResponseFormat] as const;
  }),
  ...GRAMMARS.map(([name, grammar]) => [name, { type: "grammar", grammar }] as const),
];

/** The grammar of a format; that of any JSON object if the format is refused. */
export function compiledOrObject(format: ResponseFormat): Grammar {
  try {
    return compileResponseFormat(format)!;
  } catch {
    return compileResponseFormat({ type: "json_object" })!;
  }
}
