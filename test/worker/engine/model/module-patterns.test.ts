import { expect, test } from "vitest";
import { modulePatterns, valueFor } from "../../../../worker/engine/model/module-patterns.ts";

const PATH = "model.layers.11.self_attn.q_proj";

test.each<[string, boolean]>([
  ["q_proj", true],
  [PATH, true],
  ["roj", false],
  ["self_attn", false],
  ["layers.\\d+.self_attn.q_proj", true],
  [".*\\.self_attn\\..*", true],
  ["layers\\.(1|11)\\.self_attn\\.[qk]_proj$", true],
  ["layers\\.(1|2)\\.self_attn\\.[qk]_proj", false],
  ["^model.layers.\\d+.*q_proj", true],
  ["^layers.*", false],
  ["^layers.*|q_(proj)", true],
  // A backtracking engine needs time for these that doubles with each character of the path.
  ["((.*)*)*z", false],
  ["((.*)*)*q_proj", true],
])("the pattern %s: %s", (pattern, matches) => {
  expect(valueFor(modulePatterns({ [pattern]: 3 }), PATH)).toBe(matches ? 3 : undefined);
});

test("the first pattern that matches counts", () => {
  const patterns = modulePatterns({ k_proj: 1, "(q)_proj": 2, q_proj: 3 });
  expect(valueFor(patterns, PATH)).toBe(2);
});

test.each([
  ["(", "must be a regular expression of JavaScript with the flag u: Unterminated group"],
  ["(?=q)q_proj", "has assertions within it: they are not supported"],
  ["(q)\\1", "has back references, which are not supported"],
  ["(q){999999}", "is too large: use fewer repetitions"],
  ["(q){9999999}", "repeats a part more than 1000000 times"],
])("the pattern %s is refused", (pattern, reason) => {
  expect(() => modulePatterns({ [pattern]: 3 })).toThrow(
    `has the pattern ${JSON.stringify(pattern)}, which ${reason}`,
  );
});

test("too many patterns that need automata are refused", () => {
  const patterns = Object.fromEntries(Array.from({ length: 101 }, (_, i) => [`(q)${i}`, 1]));
  expect(() => modulePatterns(patterns)).toThrow("has 101 patterns with groups or sets, more than");
});
