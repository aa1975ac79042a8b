/**
 * Response formats that are made to cost much. The budget counts steps, so a format is refused after the same work on every
 * machine, and these tests measure no time.
 */
import { describe, expect, test } from "vitest";
import type { ResponseFormat } from "../../../shared/api/response-formats.ts";
import { LIMITS } from "../../../shared/api/limits.ts";
import { Budget } from "../../../shared/grammar/rules/budget.ts";
import { compileGrammar } from "../../../shared/grammar/automaton/compile.ts";
import { compileResponseFormat } from "../../../shared/grammar/format.ts";
import { schemaFormat } from "../../support/grammar.ts";

const regex = (pattern: string): ResponseFormat => ({ type: "regex", pattern });
const inSchema = (schema: object) =>
  schemaFormat({ type: "object", properties: { ok: { type: "boolean" }, note: schema } });

/** Steps that the worker takes for a format that the edge has accepted. */
function stepsOf(format: ResponseFormat): number {
  const budget = new Budget();
  compileGrammar(compileResponseFormat(format)!, budget);
  return budget.used;
}

const properties = (count: number, schema: object, isRequired: boolean) => {
  const names = Array.from({ length: count }, (_, i) => `${i}_property`);
  return {
    type: "object",
    properties: Object.fromEntries(names.map((name) => [name, schema])),
    required: isRequired ? names : [],
  };
};

describe("a hostile pattern is refused within the budget:", () => {
  test.each([
    "([a-z ]{0,63}|[a-q ]{0,63}){0,63}",
    "(\\w{0,40}\\s{0,5}){0,60}",
    "((((a{0,9}){0,9}){0,9}){0,9}){0,9}",
    "[ab]*a[ab]{20}",
    "(?:a{99}b?){999}",
    "(.{0,99}a){99}",
    "(\\p{L}{0,20}\\p{Lu}{0,20}){20}",
  ])("%s", (pattern) => {
    const error = { code: "invalid_request", message: expect.stringMatching(/is too large/) };
    expect(() => compileResponseFormat(regex(pattern))).toThrow(
      expect.objectContaining({ ...error, param: "response_format.pattern" }),
    );
    expect(() => compileResponseFormat(inSchema({ type: "string", pattern }))).toThrow(
      expect.objectContaining({
        ...error,
        param: "response_format.json_schema.schema.properties.note.pattern",
      }),
    );
  });
});

describe("a pattern that is too long or too deep is refused before it is parsed:", () => {
  test.each([
    ["characters", "\\p{L}".repeat(500)],
    ["groups within each other", `${"(".repeat(500)}a${")".repeat(500)}`],
  ])("%s", (message, pattern) => {
    expect(() => compileResponseFormat(regex(pattern))).toThrow(message);
    expect(() => compileResponseFormat(inSchema({ type: "string", pattern }))).toThrow(
      expect.objectContaining({
        param: "response_format.json_schema.schema.properties.note.pattern",
      }),
    );
  });
});

describe("large and ordinary formats cost few steps:", () => {
  test.each<[name: string, format: ResponseFormat, stepsMax: number]>([
    ["JSON objects of any depth", { type: "json_object" }, 3_000],
    ["a string of 65,535 characters", inSchema({ type: "string", maxLength: 65_535 }), 5_000],
    ["letters of all languages, 200 times", regex("\\p{L}".repeat(200)), 30_000],
    ["a name", regex("^\\p{L}[\\p{L}\\p{M}' -]{0,99}$"), 30_000],
    ["lists of lists", inSchema({ type: "array", maxItems: 99, items: { maxItems: 99 } }), 5_000],
    ["200 required properties", schemaFormat(properties(200, { type: "string" }, true)), 230_000],
    ["150 optional properties", schemaFormat(properties(150, { type: "string" }, false)), 245_000],
    ["2,000 values", inSchema({ enum: Array.from({ length: 2_000 }, (_, i) => `v${i}`) }), 110_000],
  ])("%s", (_name, format, stepsMax) => {
    expect(stepsOf(format)).toBeLessThan(stepsMax);
    expect(stepsMax).toBeLessThan(LIMITS.grammarStepsMax);
  });
});

test("the most expensive part of a schema is named", () => {
  const cheap = { type: "string", pattern: "[a-z]{1,8}" };
  const costly = { type: "string", pattern: "([a-z ]{0,63}|[a-q ]{0,63}){0,63}" };
  const schema = { type: "array", items: { properties: { a: cheap, b: costly, c: cheap } } };
  expect(() => compileResponseFormat(schemaFormat(schema))).toThrow(
    expect.objectContaining({
      param: "response_format.json_schema.schema.items.properties.b.pattern",
      message: expect.stringMatching(/is too large/),
    }),
  );
});
