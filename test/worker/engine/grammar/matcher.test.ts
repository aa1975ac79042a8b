/** Token masks and constraints of grammars, over real and small vocabularies. */
import * as fc from "fast-check";
import { expect, test } from "vitest";
import { compileGrammar } from "../../../../shared/grammar/automaton/compile.ts";
import type { Grammar } from "../../../../shared/grammar/rules/grammar.ts";
import { GrammarConstraint } from "../../../../worker/engine/grammar/constraint.ts";
import { Matcher } from "../../../../worker/engine/grammar/matcher.ts";
import { TokenTrie } from "../../../../worker/engine/grammar/token-trie.ts";
import {
  allowedAt,
  anyText,
  demoTokens,
  matcherOf,
  positionAfter,
  schemaFormat,
} from "../../../support/grammar.ts";
import { tinyTokenizer } from "../../../support/tokenizers.ts";

const person = schemaFormat({
  type: "object",
  properties: { name: { type: "string" }, age: { type: "integer", minimum: 0, maximum: 150 } },
  required: ["name", "age"],
});
const EOS = new Set([0]);

/** Reference: matches the text with each token from its beginning. */
function allowedOneByOne(matcher: Matcher, text: string): number[] {
  const before = new TextEncoder().encode(text);
  return demoTokens.flatMap((bytes, id) => {
    if (!bytes) return [];
    const whole = Uint8Array.from([...before, ...bytes]);
    return positionAfter(matcher, whole) ? [id] : [];
  });
}

test("a mask has exactly the allowed tokens", () => {
  const matcher = matcherOf(person);
  fc.assert(
    fc.property(fc.nat(), fc.nat(), (seed, cut) => {
      const text = anyText(matcher, seed) ?? "";
      const start = text.slice(0, cut % (text.length + 1)).toWellFormed();
      const position = positionAfter(matcher, start)!;
      expect(allowedAt(position)).toEqual(allowedOneByOne(matcher, start));
    }),
    { numRuns: 50 },
  );
});

test("all tokens with the same text are allowed; special tokens and unused ids never are", () => {
  const tokenizer = tinyTokenizer({
    tokens: ["<eos>", "a", "ab", "<0x61>", "<pad>"],
    special: ["<eos>", "<pad>"],
    decoder: { type: "ByteFallback" },
  });
  const tokens = Array.from({ length: 6 }, (_, id) => tokenizer.tokenBytes(id));
  expect(tokens.map((bytes) => bytes && Buffer.from(bytes).toString())).toEqual([
    null,
    "a",
    "ab",
    "a",
    null,
    null,
  ]);
  const matcher = matcherOf({ type: "regex", pattern: "a.*" }, new TokenTrie(tokens));
  expect(allowedAt(matcher.start, tokens.length)).toEqual([1, 2, 3]);
});

test("a token with half a character allows its other half next", () => {
  const half = (byte: number) => `<0x${byte.toString(16).toUpperCase()}>`;
  const tokenizer = tinyTokenizer({
    tokens: ["?", ...[0xc3, 0xa9, 0xb6, 0xff].map(half)],
    decoder: { type: "ByteFallback" },
  });
  const trie = new TokenTrie(Array.from({ length: 5 }, (_, id) => tokenizer.tokenBytes(id)));
  const { start } = matcherOf({ type: "regex", pattern: "é" }, trie);
  expect(allowedAt(start, 5)).toEqual([1]);
  expect(allowedAt(start.advance(0xc3)!, 5)).toEqual([2]);
});

test("rewind restores a constraint", () => {
  const matcher = matcherOf(person);
  const ids = demoTokens.map((_, id) => id);
  fc.assert(
    fc.property(
      fc.array(fc.record({ pick: fc.nat(), back: fc.nat(3) }), { maxLength: 30 }),
      (moves) => {
        const constraint = new GrammarConstraint(matcher, EOS);
        let tokens: number[] = [];
        const allowed = (of: GrammarConstraint) => {
          const logits = new Float32Array(demoTokens.length);
          of.mask(logits);
          return ids.filter((id) => logits[id] === 0);
        };
        for (const { pick, back } of moves) {
          const may = allowed(constraint);
          if (may.length === 0) break;
          tokens.push(may[pick % may.length]!);
          constraint.accept(tokens.at(-1)!);
          const count = Math.min(back, tokens.length);
          constraint.rewind(count);
          tokens = tokens.slice(0, tokens.length - count);
          const again = new GrammarConstraint(matcher, EOS);
          for (const token of tokens) again.accept(token);
          expect(allowed(constraint)).toEqual(allowed(again));
          expect(constraint.isComplete).toBe(again.isComplete);
        }
      },
    ),
    { numRuns: 50 },
  );
});

test("an end token is allowed where the text may end, and is the only token where it must", () => {
  const constraint = new GrammarConstraint(matcherOf({ type: "regex", pattern: "a{1,2}" }), EOS);
  const ends = () => {
    const logits = new Float32Array(demoTokens.length);
    constraint.mask(logits);
    return logits[0] === 0;
  };
  const a = demoTokens.findIndex((bytes) => bytes?.length === 1 && bytes[0] === 0x61);
  expect([ends(), constraint.isComplete]).toEqual([false, false]);
  constraint.accept(a);
  expect([ends(), constraint.isComplete]).toEqual([true, false]);
  constraint.accept(a);
  expect([ends(), constraint.isComplete]).toEqual([true, true]);
  expect(() => constraint.accept(a)).toThrow("not allowed by the grammar");
  constraint.accept(0);
  expect([ends(), constraint.isComplete]).toEqual([false, true]);
});

test("a grammar that no token can start fails with the parameter's name", () => {
  const matcher = matcherOf(
    { type: "regex", pattern: "b" },
    new TokenTrie([null, Uint8Array.of(97)]),
  );
  const error = expect.objectContaining({ code: "invalid_request", param: "response_format" });
  expect(() => new GrammarConstraint(matcher, EOS).mask(new Float32Array(2))).toThrow(error);
});

test("a rule that calls itself before it reads a byte is refused", () => {
  const endless: Grammar = { rules: [{ all: [{ rule: 0 }, "a"] }] };
  expect(() => compileGrammar(endless)).toThrow("without end");
});
