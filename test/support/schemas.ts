/**
 * Random JSON Schemas and values, and an independent validator (ajv) that judges what a schema's grammar generates and accepts: for
 * the property tests and `npm run fuzz:grammar`.
 */
import { Ajv2020 } from "ajv/dist/2020.js";
import formats from "ajv-formats";
import * as fc from "fast-check";
import { AppError } from "../../shared/api/errors.ts";
import type { Matcher } from "../../worker/engine/grammar/matcher.ts";
import { accepts, anyText, matcherOf, schemaFormat } from "./grammar.ts";

// Without ownProperties, every object would have the inherited property "constructor".
const ajv = new Ajv2020({ strict: false, ownProperties: true, multipleOfPrecision: 9 });
// @ts-expect-error: a CommonJS module whose types say that it is none
formats(ajv);

const between = (keywords: [string, string], arbitrary: fc.Arbitrary<number>, spanMax: number) =>
  fc.tuple(arbitrary, fc.nat(spanMax), fc.constantFrom(0, 1, 2, 3)).map(([min, span, which]) => ({
    ...(which & 1 && { [keywords[0]]: min }),
    ...(which & 2 && { [keywords[1]]: min + span }),
  }));

const bounds = between(["minimum", "maximum"], fc.integer({ min: -2000, max: 2000 }), 3000);
const fractional = between(
  ["exclusiveMinimum", "exclusiveMaximum"],
  fc.integer({ min: -400, max: 400 }).map((value) => value / 20),
  7,
);
const pattern = fc.constantFrom(
  "^[a-z]{2,5}$",
  "\\d+(?:\\.\\d)?",
  'a"?.\\\\b*',
  "^[^a-z]{1,3}$",
  "(?:é|😀)+",
  "^(?!a)[a-d]*(?<!bb)$",
);
const FORMATS =
  "date time date-time duration uuid ipv4 ipv6 email hostname uri uri-reference json-pointer";
const format = fc.constantFrom(...FORMATS.split(" "));
const lengths = between(["minLength", "maxLength"], fc.nat(4), 6);
const leaf: fc.Arbitrary<object> = fc.oneof(
  fc.constantFrom({}, { type: "null" }, { type: "boolean" }, { type: ["string", "null"] }),
  bounds.map((limits) => ({ type: "integer", ...limits })),
  bounds.map((limits) => ({ type: "number", ...limits })),
  fractional.map((limits) => ({ type: "number", ...limits })),
  fc
    .tuple(bounds, fc.constantFrom(1, 3, 10, 0.5, 0.25, 12))
    .map(([limits, multipleOf]) => ({ type: "number", multipleOf, ...limits })),
  lengths.map((limits) => ({ type: "string", ...limits })),
  fc.tuple(pattern, lengths).map(([pattern, limits]) => ({ type: "string", pattern, ...limits })),
  format.map((format) => ({ type: "string", format })),
  fc
    .tuple(fc.array(fc.jsonValue({ maxDepth: 1 }), { minLength: 1, maxLength: 3 }), bounds)
    .map(([values, limits]) => ({ enum: [...values, 7], ...limits })),
);
const NAMES = ["name", "a b", 'q"uote', "q\\", "é", "è", "имя", "год", "constructor", "0", "names"];
export const { schema: schemas } = fc.letrec<{ schema: object }>((tie) => {
  const schemas = fc.array(tie("schema"), { minLength: 1, maxLength: 3 });
  const object = fc
    .record({
      properties: fc.dictionary(fc.constantFrom(...NAMES), tie("schema"), { maxKeys: 4 }),
      patternProperties: fc.dictionary(fc.constantFrom("^n", "e$"), tie("schema"), { maxKeys: 1 }),
      additionalProperties: fc.oneof(fc.boolean(), tie("schema")),
      required: fc.subarray(NAMES, { maxLength: 3 }),
      counts: between(["minProperties", "maxProperties"], fc.nat(2), 3),
      dependentRequired: fc.constantFrom({}, { name: ["0"] }),
      propertyNames: fc.constantFrom(true, { maxLength: 8 }, { pattern: "^[^x]" }),
    })
    .map(({ counts, ...keywords }) => ({ type: "object", ...keywords, ...counts }));
  return {
    schema: fc.oneof(
      { maxDepth: 3, depthSize: "small" },
      leaf,
      object,
      fc
        .tuple(tie("schema"), between(["minItems", "maxItems"], fc.nat(2), 2))
        .map(([items, limits]) => ({ type: "array", items, ...limits })),
      fc.tuple(schemas, fc.boolean(), tie("schema")).map(([prefixItems, isClosed, items]) => ({
        type: "array",
        prefixItems,
        items: isClosed ? false : items,
      })),
      tie("schema").map((contains) => ({ type: "array", contains, maxItems: 3 })),
      schemas.map((branches) => ({ anyOf: branches })),
      schemas.map((branches) => ({ oneOf: branches })),
      fc.tuple(tie("schema"), tie("schema")).map((branches) => ({ allOf: branches })),
      fc.tuple(tie("schema"), leaf).map(([one, not]) => ({ ...one, not })),
      fc
        .tuple(leaf, tie("schema"), tie("schema"))
        // eslint-disable-next-line unicorn/no-thenable
        .map(([condition, a, b]) => ({ if: condition, then: a, else: b })),
    ),
  };
});

// ajv throws when it compares objects with these members.
const isComparable = (value: unknown) => !/"(toString|valueOf)"/.test(JSON.stringify(value));
export const jsonValues = fc.array(fc.jsonValue({ maxDepth: 2 }).filter(isComparable), {
  minLength: 8,
  maxLength: 8,
});

/** Null if the schema allows no value, or cannot be held. */
function schemaMatcher(schema: object): Matcher | null {
  try {
    return matcherOf(schemaFormat(schema));
  } catch (error) {
    if (error instanceof AppError) return null;
    throw error;
  }
}

/** A text of the schema's grammar, and why it is not valid; null if it is valid. Null if there is no text that ajv can judge. */
export function generated(
  schema: object,
  seed: number,
): { text: string; errors: string | null } | null {
  const matcher = schemaMatcher(schema);
  const text = matcher && anyText(matcher, seed);
  // ajv computes with doubles, so it cannot judge longer numbers.
  if (text === null || /\d{16}/.test(text)) return null;
  return { text, errors: ajv.validate(schema, JSON.parse(text)) ? null : ajv.errorsText() };
}

/** Whether each value is valid, and whether the schema's grammar accepts it. None if the schema cannot be held. */
export function judged(schema: object, values: readonly unknown[]) {
  const matcher = schemaMatcher(schema);
  if (matcher === null) return [];
  return values.map((value) => ({
    value,
    isValid: ajv.validate(schema, value),
    isAccepted: accepts(matcher, JSON.stringify(value)),
  }));
}
