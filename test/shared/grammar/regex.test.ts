/** Regular expressions as grammars, checked against JavaScript's RegExp. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { compileResponseFormat } from "../../../shared/grammar/format.ts";
import { AppError } from "../../../shared/api/errors.ts";
import type { Matcher } from "../../../worker/engine/grammar/matcher.ts";
import type { ResponseFormat } from "../../../shared/api/response-formats.ts";
import { accepts, anyText, matcherOf, schemaFormat } from "../../support/grammar.ts";

const regex = (pattern: string) => matcherOf({ type: "regex", pattern });

const atom = fc.constantFrom(
  "a",
  "b",
  "\\d",
  "\\s",
  "[^b]",
  ".",
  "é",
  "[à-ü]",
  "[\\u{10000}-\\u{10FFFF}]",
  "\\n",
  "\\.",
  "[\\w-]",
);
const { pattern } = fc.letrec<{ pattern: string }>((tie) => ({
  pattern: fc.oneof(
    { maxDepth: 3, depthSize: "small" },
    atom,
    fc.array(tie("pattern"), { minLength: 2, maxLength: 3 }).map((parts) => parts.join("")),
    fc
      .array(tie("pattern"), { minLength: 2, maxLength: 3 })
      .map((parts) => `(?:${parts.join("|")})`),
    fc
      .tuple(tie("pattern"), fc.constantFrom("*", "+", "?", "{2}", "{1,3}", "{2,}", "*?"))
      .map(([part, times]) => `(${part})${times}`),
  ),
}));
/**
 * At most 12 characters: RegExp backtracks, so for patterns like ((.*)*)* its time grows exponentially with the text. With
 * 20 to 30 characters a single match took up to 42 s; with 12 the slowest of 40,000 took 0.1 s.
 */
const texts = fc.array(
  fc.oneof(
    fc.constantFrom("a", "b", "1", " ", "\n", ".", "é", "ü", "😀", "-", "_"),
    fc.string({ unit: "binary", maxLength: 2 }),
  ),
  { maxLength: 6 },
);

test("the grammar accepts the same texts as RegExp", () => {
  let matched = 0;
  fc.assert(
    fc.property(pattern, texts, (pattern, parts) => {
      const text = parts.join("");
      const expected = new RegExp(`^(?:${pattern})$`, "u").test(text);
      expect(accepts(regex(pattern), text)).toBe(expected);
      if (expected) matched++;
    }),
    { numRuns: 2000 },
  );
  expect(matched).toBeGreaterThan(50);
});

test("every text of the grammar matches the RegExp", () => {
  fc.assert(
    fc.property(pattern, fc.nat(), (pattern, seed) => {
      const text = anyText(regex(pattern), seed, 60);
      fc.pre(text !== null);
      expect(text).toMatch(new RegExp(`^(?:${pattern})$`, "u"));
    }),
    { numRuns: 200 },
  );
});

/** Patterns that match anywhere in a text, with assertions: as JSON Schema has them. */
const assertion = fc.constantFrom("^", "$", "\\b", "\\B", "(?=[ab])", "(?!b)", "(?<=a)", "(?<!1)");
const open = fc
  .tuple(
    fc.constantFrom("", "^", "^(?!aa)", "^(?=.*b)(?!.*1b)", "^(?:a|)"),
    fc.array(fc.oneof(atom, assertion, pattern), { maxLength: 4 }),
    fc.constantFrom("", "$", "(?<!ab)$", "|^b"),
  )
  .map(([start, parts, end]) => start + parts.join("") + end);

test("a pattern of a JSON Schema matches anywhere, like RegExp, within the lengths", () => {
  let matched = 0;
  fc.assert(
    fc.property(open, fc.nat(3), fc.nat(3), texts, (pattern, minLength, more, parts) => {
      const text = parts.join("");
      const lengths = more === 3 ? {} : { minLength, maxLength: minLength + 2 * more };
      const matcher = matcherOrNull(schemaFormat({ type: "string", pattern, ...lengths }));
      // A lookaround in the middle is not supported, and a few patterns cost too much.
      fc.pre(matcher !== "refused");
      const length = Array.from(text).length;
      const isLong = more < 3 && (length < minLength || length > minLength + 2 * more);
      const expected = !isLong && new RegExp(pattern, "u").test(text);
      const accepted = matcher !== null && accepts(matcher, JSON.stringify(text));
      expect({ accepted, text }).toEqual({ accepted: expected, text });
      if (expected) matched++;
    }),
    { numRuns: 1000 },
  );
  expect(matched).toBeGreaterThan(50);
});

/** Null if the format allows no text. */
function matcherOrNull(format: ResponseFormat): Matcher | null | "refused" {
  try {
    return matcherOf(format);
  } catch (error) {
    if (error instanceof AppError && /allows no|matches no/.test(error.message)) return null;
    if (!(error instanceof AppError)) throw error;
    const isCostly = error.message.includes("is too large or too ambiguous");
    if (isCostly || error.code === "unsupported_parameter") return "refused";
    throw error;
  }
}

test("ranges of characters have exact borders", () => {
  const edges = [0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xffff, 0x10000, 0x10ffff];
  const character = fc.oneof(
    fc.constantFrom(...edges),
    fc.nat(0xd7ff),
    fc.integer({ min: 0xe000, max: 0x10ffff }),
  );
  fc.assert(
    fc.property(character, character, (a, b) => {
      const [min, max] = [Math.min(a, b), Math.max(a, b)];
      const matcher = regex(`[\\u{${min.toString(16)}}-\\u{${max.toString(16)}}]`);
      for (const code of [min - 1, min, Math.floor((min + max) / 2), max, max + 1]) {
        const isCharacter = code >= 0 && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
        if (!isCharacter) continue;
        expect(accepts(matcher, String.fromCodePoint(code))).toBe(code >= min && code <= max);
      }
    }),
  );
});

test.each([
  ["\\p{Foo}", "with the flag u: Invalid property name"],
  ["\\p{L}\\-", "with the flag u: Invalid escape"],
  ["(?i:abc)", "flags for a group"],
  ["(a)\\1", "back references"],
])("%s is refused with its reason", (pattern, reason) => {
  expect(() => compileResponseFormat({ type: "regex", pattern })).toThrow(reason);
});

test("a pattern that is none with the flag u is read without it if it means the same", () => {
  expect(accepts(regex("a{2"), "a{2")).toBe(true);
  expect(accepts(regex("\\w+\\-\\_"), "ab-_")).toBe(true);
});

test("escaped backslashes before a digit are no back reference", () => {
  expect(accepts(regex("(a)\\\\1"), "a\\1")).toBe(true);
});

test("^ and $ around a pattern change nothing", () => {
  for (const pattern of ["ab", "^ab", "ab$", "^ab$"])
    expect(accepts(regex(pattern), "ab")).toBe(true);
  expect(accepts(regex("a\\$"), "a$")).toBe(true);
});

test.each([
  ["(a", "invalid_request"],
  ["[]", "invalid_request"],
  ["(a*)\\1", "unsupported_parameter"],
  ["(a)\\1", "unsupported_parameter"],
  ["(?<x>a)\\\\\\k<x>", "unsupported_parameter"],
  ["a(?=bc)b", "unsupported_parameter"],
  ["a^b", "invalid_request"],
  ["(a{99}){999}", "invalid_request"],
  // refa counts modulo 2 ** 32.
  ["a{4294967297}", "invalid_request"],
  ["[{1}]a{0,9007199254740993}", "invalid_request"],
  [`a{${"9".repeat(400)}}`, "invalid_request"],
])("%s is refused", (pattern, code) => {
  const error = expect.objectContaining({ code, param: "response_format.pattern" });
  expect(() => compileResponseFormat({ type: "regex", pattern })).toThrow(error);
});
