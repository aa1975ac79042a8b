/** Prompt lookup: the same drafts as a search of the whole text, at a cost that does not grow with the text. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { PromptLookup } from "../../../../worker/engine/decode/prompt-lookup.ts";

/** Reference: searches the whole text. */
function searched(text: readonly number[], count: number): number[] {
  const end = text.slice(-3).join();
  let found: number[] = [];
  for (let start = 0; start < text.length - 3; start++) {
    if (text.slice(start, start + 3).join() !== end) continue;
    found = text.slice(start + 3, start + 3 + count);
  }
  return found;
}

test("finds what followed the latest occurrence of the last three tokens, while the text grows", () => {
  // Few different tokens, so that sequences repeat; some are beyond 2^17.
  const text = fc.array(fc.constantFrom(0, 1, 262_143), { maxLength: 30 });
  // Several tokens at once, as after drafts.
  const growths = fc.array(text, { maxLength: 4 });
  fc.assert(
    fc.property(text, growths, fc.nat(8), (prompt, growths, count) => {
      const output: number[] = [];
      const lookup = new PromptLookup(prompt, output);
      for (const tokens of [[], ...growths]) {
        output.push(...tokens);
        const all = [...prompt, ...output];
        expect(lookup.length).toBe(all.length);
        expect(lookup.find(count)).toEqual(searched(all, count));
        expect(lookup.draftOfLast).toBe(searched(all.slice(0, -1), 1)[0] ?? null);
      }
    }),
    { numRuns: 1000 },
  );
});

test.each([
  [[], []],
  [[1, 2, 3], []],
  [[1, 1, 1, 1], [1]],
  [
    [1, 2, 3, 4, 5, 1, 2, 3],
    [4, 5],
  ],
  [
    [1, 2, 3, 4, 1, 2, 3, 5, 1, 2, 3],
    [5, 1],
  ],
])("in %j finds %j", (text, found) => {
  expect(new PromptLookup(text, []).find(2)).toEqual(found);
});

test("another trigram with the same key is no occurrence", () => {
  // The key of a, b, c is a * m^2 + b * m + c modulo 2^32.
  const m = 0x9e3779b1;
  const c = Math.imul(m, m) >>> 0;
  const text = [1, 0, 0, 7, 0, 0, c];
  expect(new PromptLookup(text, []).find(2)).toEqual([]);
});
