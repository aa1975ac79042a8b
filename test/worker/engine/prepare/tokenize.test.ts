/** Answers of a worker's tokenizers. */
import { expect, test } from "vitest";
import type { TokenizerQuestion } from "../../../../shared/workers/tokenizer-requests.ts";
import { loadTokenizers } from "../../../../worker/engine/model/ensemble-tokenizers.ts";
import type { EnsembleEntry } from "../../../../worker/engine/model/manifest.ts";
import { answerQuestion } from "../../../../worker/engine/prepare/tokenize.ts";
import { folderOf, tokenizerJson } from "../../../support/tokenizers.ts";

const path = folderOf({
  "tokenizer.json": tokenizerJson({
    tokens: ["<unk>", "<s>", "a", "b", "user"],
    special: ["<s>"],
    bos: "<s>",
  }),
  "tokenizer_config.json": { tokenizer_class: "Tiny", bos_token: { content: "<s>" } },
  "config.json": { eos_token_id: 1, max_position_embeddings: 8 },
  "chat_template.jinja": "{% for m in messages %}{{ m.role }} {{ m.content }}{% endfor %}",
});
const model = { path, dtype: "fp32" };
const entry = { id: "tiny", base: model, expert: model, antiexpert: model };
const ensembles = new Map([["tiny", loadTokenizers(entry as unknown as EnsembleEntry)]]);
const ask = (question: TokenizerQuestion) => answerQuestion(ensembles, { model: "tiny", question });

const text = (text: string) => ({ kind: "text", text }) as const;
const plain = { kind: "encode", addSpecialTokens: false, withTexts: false } as const;

test.each<[string, TokenizerQuestion, object]>([
  ["a text", { ...plain, input: text("a b") }, { ids: [2, 3], texts: null }],
  [
    "a text as a prompt, with the tokens' texts",
    { ...plain, input: text("a b"), addSpecialTokens: true, withTexts: true },
    { ids: [1, 2, 3], texts: ["<s>", "a", "b"] },
  ],
  ["an empty text", { ...plain, input: text("") }, { ids: [] }],
  [
    "a conversation, by the chat template",
    {
      ...plain,
      input: { kind: "chat", messages: [{ role: "user", content: "b" }] } as { kind: string },
    },
    { ids: [4, 3] },
  ],
])("%s is tokenized", (_, question, answer) => {
  expect(ask(question)).toMatchObject({ kind: "encode", ...answer });
});

test("a text may be longer than the context, up to a bound", () => {
  expect(ask({ ...plain, input: text("a ".repeat(1_000)) })).toMatchObject({ kind: "encode" });
  expect(ask({ ...plain, input: text("a ".repeat(40_000)) })).toMatchObject({
    kind: "error",
    code: "context_length_exceeded",
    param: "prompt",
  });
});

test("ids become text with their special tokens; an unknown one is named", () => {
  expect(ask({ kind: "decode", ids: [1, 2, 3] })).toEqual({ kind: "decode", text: "<s>ab" });
  expect(ask({ kind: "decode", ids: [] })).toEqual({ kind: "decode", text: "" });
  expect(ask({ kind: "decode", ids: [2, 5] })).toMatchObject({
    kind: "error",
    code: "invalid_request",
    param: "tokens.1",
  });
});

test("the configuration has the special tokens as texts, and the chat template", () => {
  expect(ask({ kind: "info" })).toMatchObject({
    kind: "info",
    info: {
      tokenizer_class: "Tiny",
      bos_token: "<s>",
      chat_template: expect.stringContaining("m.role") as string,
    },
  });
});

test("a model that the worker does not serve is an error", () => {
  expect(answerQuestion(ensembles, { model: "other", question: { kind: "info" } })).toMatchObject({
    kind: "error",
    code: "model_not_found",
  });
});
