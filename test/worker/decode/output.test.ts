import * as fc from "fast-check";
import { expect, test } from "vitest";
import { Output, type OutputOptions } from "../../../worker/decode/output.ts";

/** Tokens are bytes. */
const decode = (ids: number[]) => Buffer.from(ids).toString();
const EOS = [0, 3];

function outputOf(options: Partial<OutputOptions> = {}): Output {
  return new Output({ decode, stop: [], eosIds: new Set(EOS), maxTokens: 100, ...options });
}

/** Text of each accepted token, up to the end. */
function read(output: Output, tokens: Iterable<number>): string[] {
  const texts: string[] = [];
  for (const token of tokens) {
    texts.push(output.accept(token).text);
    if (output.finish) break;
  }
  return texts;
}

test.each(EOS)("end token %i ends the text and has none itself", (eos) => {
  const output = outputOf();
  expect(read(output, [...Buffer.from("ab"), eos, 65])).toEqual(["a", "b", ""]);
  expect(output.finish).toBe("stop");
});

test("a stop string across tokens ends the text before it", () => {
  const output = outputOf({ stop: ["lo w"] });
  expect(read(output, Buffer.from("hello world")).join("")).toBe("hel");
  expect(output.finish).toBe("stop");
});

test("the token limit ends the text and gives out what was held", () => {
  const output = outputOf({ stop: ["cde"], maxTokens: 4 });
  expect(read(output, Buffer.from("abcdef"))).toEqual(["a", "b", "", "cd"]);
  expect(output.finish).toBe("length");
});

test("an end token at the token limit is a stop", () => {
  const output = outputOf({ maxTokens: 2 });
  read(output, [65, 0]);
  expect(output.finish).toBe("stop");
});

test("an end token gives out what a stop string held back", () => {
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
])("an unfinished character is given out at %s", (_, options) => {
  const output = outputOf(options);
  expect(read(output, [65, 0xe2, 0]).join("")).toBe("A\uFFFD");
});

test("a stop string that an unfinished character completes is found at the end", () => {
  const output = outputOf({ stop: ["\uFFFD"] });
  expect(read(output, [65, 0xe2, 0]).join("")).toBe("A");
  expect(output.finish).toBe("stop");
  const atLimit = outputOf({ stop: ["\uFFFD"], maxTokens: 2 });
  expect(read(atLimit, [65, 0xe2]).join("")).toBe("A");
  expect(atLimit.finish).toBe("stop");
});

test("is null while it goes on", () => {
  const output = outputOf();
  expect(output.accept(65)).toEqual({ text: "A", finish: null });
  expect(output.finish).toBeNull();
});

test("replaying the tokens gives the same texts, and continues as if nothing had happened", () => {
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
