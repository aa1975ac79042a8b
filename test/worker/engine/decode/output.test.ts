/** Text and finish of an output: end tokens, stop strings, token limit. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Output, type OutputOptions } from "../../../../worker/engine/decode/output.ts";

/** Tokens are bytes. */
const decode = (ids: number[]) => Buffer.from(ids).toString();
const EOS = [0, 3];

function outputOf(options: Partial<OutputOptions> = {}): Output {
  return new Output({ decode, stop: [], eosIds: new Set(EOS), maxTokens: 100, ...options });
}

/** Text of each token, up to the end of the output. */
function read(output: Output, tokens: Iterable<number>): string[] {
  const texts: string[] = [];
  for (const token of tokens) {
    texts.push(output.push(token).text);
    if (output.finish) break;
  }
  return texts;
}

test.each(EOS)("end token %i ends the output and has no text", (eos) => {
  const output = outputOf();
  expect(read(output, [...Buffer.from("ab"), eos, 65])).toEqual(["a", "b", ""]);
  expect(output.finish).toBe("stop");
  expect(output.stopString).toBeNull();
});

test("a stop string across tokens ends the output before it", () => {
  const output = outputOf({ stop: ["lo w"] });
  expect(read(output, Buffer.from("hello world")).join("")).toBe("hel");
  expect(output.finish).toBe("stop");
  expect(output.stopString).toBe("lo w");
});

test("tokens without text are not decoded, and count towards the limit", () => {
  const longest: number[] = [];
  const output = outputOf({
    silentIds: new Set([7]),
    maxTokens: 200,
    decode: (ids) => {
      longest.push(ids.length);
      return decode(ids);
    },
  });
  const tokens = [65, ...Array.from({ length: 198 }, () => 7), 66];
  expect(read(output, tokens).join("")).toBe("AB");
  expect(output.finish).toBe("length");
  expect(Math.max(...longest)).toBe(2);
});

test("the token limit ends the output and returns the text that was held back", () => {
  const output = outputOf({ stop: ["cde"], maxTokens: 4 });
  expect(read(output, Buffer.from("abcdef"))).toEqual(["a", "b", "", "cd"]);
  expect(output.finish).toBe("length");
});

test("an end token at the token limit is a stop", () => {
  const output = outputOf({ maxTokens: 2 });
  read(output, [65, 0]);
  expect(output.finish).toBe("stop");
});

test("an end token returns the text that was held back for a stop string", () => {
  expect(read(outputOf({ stop: ["cde"] }), [...Buffer.from("abcd"), 0])).toEqual([
    "a",
    "b",
    "",
    "",
    "cd",
  ]);
});

test.each([
  ["an end token", { maxTokens: 100 }],
  ["the token limit", { maxTokens: 2 }],
])("an incomplete character is returned as U+FFFD at %s", (_, options) => {
  const output = outputOf(options);
  expect(read(output, [65, 0xe2, 0]).join("")).toBe("A\uFFFD");
});

test("a stop string that an incomplete character completes is found at the end", () => {
  const output = outputOf({ stop: ["\uFFFD"] });
  expect(read(output, [65, 0xe2, 0]).join("")).toBe("A");
  expect(output.finish).toBe("stop");
  const atLimit = outputOf({ stop: ["\uFFFD"], maxTokens: 2 });
  expect(read(atLimit, [65, 0xe2]).join("")).toBe("A");
  expect(atLimit.finish).toBe("stop");
});

test("finish is null while the output continues", () => {
  const output = outputOf();
  expect(output.push(65)).toEqual({ text: "A", finish: null });
  expect(output.finish).toBeNull();
});

test("replaying the tokens gives the same texts and the same finish", () => {
  const tokens = fc.array(fc.oneof(fc.constantFrom(...Buffer.from("abé"), 0), fc.nat(255)));
  const stop = fc.array(fc.constantFrom("a", "ab", "ba", "é"), { maxLength: 2 });
  fc.assert(
    fc.property(tokens, stop, fc.integer({ min: 1, max: 20 }), (tokens, stop, maxTokens) => {
      const first = outputOf({ stop, maxTokens });
      const second = outputOf({ stop, maxTokens });
      expect(read(second, tokens)).toEqual(read(first, tokens));
      expect(second.finish).toBe(first.finish);
    }),
  );
});
