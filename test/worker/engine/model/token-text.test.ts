import { describe, expect, test } from "vitest";
import { ModelTokenizer } from "../../../../worker/engine/model/tokenizer.ts";
import { DEMO_MODEL } from "../../../support/demo-model.ts";
import { tinyTokenizer } from "../../../support/tokenizers.ts";

describe("a byte-level tokenizer", () => {
  const tokenizer = new ModelTokenizer(DEMO_MODEL, {});

  test("has tokens whose bytes concatenated are the text", () => {
    const text = "the émigré's 🚂, at 5\n";
    const ids = tokenizer.encode({ kind: "text", text });
    const bytes = ids.flatMap((id) => {
      const { token, bytes } = tokenizer.tokenText(id);
      return bytes ?? [...new TextEncoder().encode(token)];
    });
    expect(new TextDecoder().decode(Uint8Array.from(bytes)).trimStart()).toBe(text);
  });

  test("shows a token that is part of a character as escaped bytes", () => {
    const parts = tokenizer
      .encode({ kind: "text", text: "🚂" })
      .map((id) => tokenizer.tokenText(id));
    const broken = parts.filter(({ bytes }) => bytes);
    expect(broken.length).toBeGreaterThan(1);
    for (const { token } of broken) expect(token).toMatch(/^(\\x[0-9a-f]{2})+$/);
  });

  test("shows special tokens as they are written", () => {
    expect(tokenizer.tokenText(0)).toEqual({ token: "<eos>" });
  });
});

test("a tokenizer with byte fallback shows a space for the mark in its entries", () => {
  const decoder = {
    type: "Sequence",
    decoders: [
      { type: "Replace", pattern: { String: "▁" }, content: " " },
      { type: "ByteFallback" },
      { type: "Fuse" },
      { type: "Strip", content: " ", start: 1, stop: 0 },
    ],
  };
  const tokens = ["<unk>", "▁a▁b", "<0xF0>", "<0x0A>", "</s>"];
  const tokenizer = tinyTokenizer({ tokens, decoder, special: ["</s>"] });
  expect(tokens.map((_, id) => tokenizer.tokenText(id))).toEqual([
    { token: "<unk>" },
    { token: " a b" },
    { token: String.raw`\xf0`, bytes: [0xf0] },
    { token: "\n" },
    { token: "</s>" },
  ]);
});
