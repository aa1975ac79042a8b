import * as fc from "fast-check";
import { expect, test } from "vitest";
import { grammarOf } from "../../../shared/grammar/format.ts";
import { accepts, anyText, matcherOf } from "../../support/grammar.ts";

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
const texts = fc.array(
  fc.oneof(
    fc.constantFrom("a", "b", "1", " ", "\n", ".", "é", "ü", "😀", "-", "_"),
    fc.string({ unit: "binary" }),
  ),
  { maxLength: 6 },
);

test("the same texts match as with RegExp", () => {
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

test("every text of the grammar matches", () => {
  fc.assert(
    fc.property(pattern, fc.nat(), (pattern, seed) => {
      const text = anyText(regex(pattern), seed, 60);
      fc.pre(text !== null);
      expect(text).toMatch(new RegExp(`^(?:${pattern})$`, "u"));
    }),
    { numRuns: 200 },
  );
});

test("every character is told apart from those beside it", () => {
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

test("^ and $ around it are no more than it means anyway", () => {
  for (const pattern of ["ab", "^ab", "ab$", "^ab$"])
    expect(accepts(regex(pattern), "ab")).toBe(true);
  expect(accepts(regex("a\\$"), "a$")).toBe(true);
});

test.each([
  ["(a", "invalid_request"],
  ["[]", "invalid_request"],
  ["\\bfoo", "unsupported_parameter"],
  ["(a*)\\1", "unsupported_parameter"],
  ["(?<!a)b", "unsupported_parameter"],
  ["a^b", "unsupported_parameter"],
  ["(a{99}){999}", "invalid_request"],
])("%s is refused", (pattern, code) => {
  const error = expect.objectContaining({ code, param: "response_format.pattern" });
  expect(() => grammarOf({ type: "regex", pattern })).toThrow(error);
});
