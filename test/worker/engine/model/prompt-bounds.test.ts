/** The bounds of a text's tokens, against texts that were made to have few tokens for their bytes. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { promptBounds, type TokenizerSpec } from "../../../../worker/engine/model/prompt-bounds.ts";
import { ModelTokenizer } from "../../../../worker/engine/model/tokenizer.ts";
import { DEMO_MODEL } from "../../../support/demo-model.ts";
import { folderOf } from "../../../support/tokenizers.ts";

const demo = JSON.parse(readFileSync(join(DEMO_MODEL, "tokenizer.json"), "utf8")) as TokenizerSpec;
const withNormalizer = (normalizer: TokenizerSpec["normalizer"]): TokenizerSpec => ({
  ...demo,
  normalizer: normalizer!,
});
/** A tokenizer of single bytes, with one long token that is written in capitals. */
const encoderOf = (spec: object) => new ModelTokenizer(folderOf({ "tokenizer.json": spec }), {});

const SHORT_INPUTS: readonly [string, TokenizerSpec["normalizer"], string][] = [
  ["the Kelvin sign in lower case", { type: "Lowercase" }, "\u212a"],
  ["an iota with two marks in NFC", { type: "NFC" }, "\u1fbe\u0308\u0301"],
  ["a mathematical letter in NFKC", { type: "NFKC" }, "\u{1d400}"],
  [
    "a Greek letter with marks in NFKC and lower case",
    { type: "Sequence", normalizers: [{ type: "NFKC" }, { type: "Lowercase" }] },
    "\u{1d6ca}\u0308\u0301",
  ],
  ["a replaced text", { type: "Replace", pattern: { String: "abcd" }, content: "z" }, "abcd"],
  ["plain words", null, " the capital of france is paris"],
];

test.each(SHORT_INPUTS)("holds for %s", (_, normalizer, text) => {
  const spec = withNormalizer(normalizer);
  const repeated = text.repeat(50);
  const ids = encoderOf(spec).encode({ kind: "text", text: repeated });
  const { tokenBytesMax } = promptBounds(spec)!;
  expect(Buffer.byteLength(repeated)).toBeLessThanOrEqual(ids.length * tokenBytesMax);
});

test("is the longest token where nothing shrinks a text", () => {
  const longest = Object.keys(demo.model!.vocab!).reduce((a, b) => Math.max(a, b.length), 0);
  expect(promptBounds(withNormalizer(null))).toEqual({
    tokenBytesMax: longest,
    tokenCharsMax: longest,
  });
  const added = [{ content: "<a very long special token, longer than all others>" }];
  const [{ content }] = added as [{ content: string }];
  const bounds = promptBounds({ ...withNormalizer(null), added_tokens: added });
  expect(bounds?.tokenBytesMax).toBe(content.length);
});

describe("there is none", () => {
  const vocab = demo.model!.vocab as Record<string, number>;
  const { Ā: _, ...incomplete } = vocab;
  test.each<[string, TokenizerSpec]>([
    ["if the normalizer drops text", withNormalizer({ type: "StripAccents" })],
    ["if a text is replaced by nothing", withNormalizer({ type: "Replace", content: "" })],
    ["if the pre-tokenizer drops spaces", { ...demo, pre_tokenizer: { type: "WhitespaceSplit" } }],
    [
      "if an added token takes the spaces beside it",
      { ...demo, added_tokens: [{ content: "<x>", rstrip: true }] },
    ],
    ["if a byte has no token", { ...demo, model: { ...demo.model, vocab: incomplete } }],
    ["if unknown words become one token", { ...demo, model: { type: "WordLevel", vocab } }],
    [
      "if unknown characters are joined",
      {
        ...demo,
        pre_tokenizer: null,
        model: { type: "BPE", vocab, unk_token: "?", fuse_unk: true },
      },
    ],
  ])("%s", (_, spec) => {
    expect(promptBounds(spec)).toBeNull();
  });
});
