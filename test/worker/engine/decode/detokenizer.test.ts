/** Streamed text against the text of all tokens, with several kinds of tokenizers. */
import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Detokenizer } from "../../../../worker/engine/decode/detokenizer.ts";
import { ModelTokenizer } from "../../../../worker/engine/model/tokenizer.ts";
import { DEMO_MODEL } from "../../../support/demo-model.ts";
import { tinyTokenizer } from "../../../support/tokenizers.ts";

type Decode = (ids: number[]) => string;

const demo = new ModelTokenizer(DEMO_MODEL, {});
const demoSize = demo.vocab.size;

const BYTES = Array.from(
  { length: 256 },
  (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`,
);
/** Like Llama 2: U+2581 stands for a space, and characters outside the vocabulary are byte tokens. */
const sentencePiece = tinyTokenizer({
  tokens: ["<s>", "▁", "▁a", "b", "▁▁", "é", "\uFFFD", ...BYTES],
  special: ["<s>"],
  decoder: {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: { String: "▁" }, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  },
});
const metaspace = tinyTokenizer({
  tokens: ["<s>", "</s>", "▁a", "b", "▁", "▁▁c"],
  special: ["<s>", "</s>"],
  decoder: { type: "Metaspace", replacement: "▁", prepend_scheme: "always" },
});
const wordPiece = tinyTokenizer({
  tokens: ["[PAD]", "a", "##b", "##c", "d", "."],
  special: ["[PAD]"],
  decoder: { type: "WordPiece", prefix: "##", cleanup: false },
});

const decoders: [name: string, decode: Decode, size: number][] = [
  ["a byte-level tokenizer", (ids) => demo.decode(ids), demoSize],
  ["SentencePiece with byte fallback", (ids) => sentencePiece.decode(ids), 263],
  ["Metaspace", (ids) => metaspace.decode(ids), 6],
  ["WordPiece", (ids) => wordPiece.decode(ids), 6],
];

/** The text returned up to each token, and at the end including the text that was held back. */
function streamed(decode: Decode, ids: readonly number[]): string[] {
  const detokenizer = new Detokenizer(decode);
  let returned = "";
  const texts = ids.map((id) => (returned += detokenizer.push(id)));
  return [...texts, returned + detokenizer.flush() + detokenizer.flush()];
}

/** Reference: the text of all tokens so far, without one character at the end that may be incomplete. */
function reference(decode: Decode, ids: readonly number[]): string[] {
  const texts = ids.map((_, i) => decode(ids.slice(0, i + 1)));
  return [...texts.map((text) => text.replace(/\uFFFD$/, "")), texts.at(-1) ?? ""];
}

describe.each(decoders)("with %s", (_, decode, size) => {
  test("every token returns exactly the text that is complete, also for invalid UTF-8", () => {
    // The first two ids are special or bare spaces; runs of one token fill the window with it.
    const id = fc.oneof(fc.nat(size - 1), fc.nat(1));
    const runs = fc.array(fc.tuple(id, fc.integer({ min: 1, max: 12 })), { maxLength: 20 });
    const ids = runs.map((all) => all.flatMap(([id, count]) => Array<number>(count).fill(id)));
    fc.assert(
      fc.property(ids, (ids) => {
        expect(streamed(decode, ids)).toEqual(reference(decode, ids));
      }),
      { numRuns: 200 },
    );
  });
});

test("any Unicode text is returned unchanged", () => {
  const scripts = fc.constantFrom(
    "é",
    "e\u0301",
    "漢字",
    "가나다",
    "👩‍👩‍👧",
    "🏳️‍🌈",
    "नमस्ते",
    "\uFEFF",
    "\uFFFD",
  );
  const text = fc.array(fc.oneof(scripts, fc.string({ unit: "grapheme" })), { maxLength: 20 });
  fc.assert(
    fc.property(text, (parts) => {
      const whole = parts.join("").toLowerCase();
      const ids = demo.encode({ kind: "text", text: whole });
      expect(ids.length === 0 ? "" : demo.decode([...ids])).toBe(whole);
      const decode = (ids: number[]) => demo.decode(ids);
      expect(streamed(decode, ids)).toEqual(reference(decode, ids));
    }),
  );
});

test("characters are returned whole, however their bytes are split into tokens", () => {
  const bytes = fc.oneof(
    fc.string({ unit: "binary" }).map((text) => Buffer.from(text)),
    fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  );
  const cuts = fc.array(fc.integer({ min: 1, max: 5 }), { minLength: 1 });
  fc.assert(
    fc.property(bytes, cuts, (bytes, cuts) => {
      const tokens: Buffer[] = [];
      for (let at = 0; at < bytes.length;) {
        const size = cuts[tokens.length % cuts.length]!;
        tokens.push(bytes.subarray(at, at + size));
        at += size;
      }
      const decode = (ids: number[]) =>
        new TextDecoder("utf-8", { ignoreBOM: true }).decode(
          Buffer.concat(ids.map((id) => tokens[id]!)),
        );
      const ids = Array.from(tokens.keys());
      expect(streamed(decode, ids)).toEqual(reference(decode, ids));
    }),
    { numRuns: 500 },
  );
});

test("tokens without text may occur anywhere, also inside a character", () => {
  const decode = (ids: number[]) => sentencePiece.decode(ids);
  const special = (count: number) => Array<number>(count).fill(0);
  const [first, second, third] = Array.from(Buffer.from("€"), (byte) => 7 + byte) as [
    number,
    number,
    number,
  ];
  for (let count = 0; count < 20; count++) {
    const between = special(count);
    const ids = [2, ...between, 2, first, ...between, second, ...between, third];
    expect(streamed(decode, ids).at(-1)).toBe("a a€");
  }
});

test("a token costs no more after 1,000 tokens than after 20", () => {
  let longest = 0;
  const detokenizer = new Detokenizer((ids) => {
    longest = Math.max(longest, ids.length);
    return demo.decode(ids);
  });
  // Byte 0x80 alone is never a complete character.
  const broken = demo.vocab.get("Ģ")!;
  for (let i = 0; i < 1_000; i++) detokenizer.push(broken);
  expect(longest).toBeLessThanOrEqual(20);
});
