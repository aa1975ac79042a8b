import { describe, expect, test } from "vitest";
import type { Input } from "../../../../shared/jobs/record.ts";
import {
  ModelTokenizer,
  TooManyTokens,
  type PromptTemplates,
} from "../../../../worker/engine/model/tokenizer.ts";
import { DEMO_MODEL } from "../../../support/demo-model.ts";
import { folderOf, tinyTokenizer, tokenizerJson } from "../../../support/tokenizers.ts";

const TOKENS = ["<bos>", "<eos>", "system", "user", "assistant", "hi", "own", "config", "other"];
const CHAT: Input = { kind: "chat", messages: [{ role: "user", content: "hi" }] };

interface Files {
  readonly config?: object;
  readonly jinja?: string;
}

function tokenizer({ config, jinja }: Files, templates: PromptTemplates = {}): ModelTokenizer {
  const special = ["<bos>", "<eos>"];
  const folder = folderOf({
    "tokenizer.json": tokenizerJson({ tokens: TOKENS, special, bos: "<bos>" }),
    ...(config && { "tokenizer_config.json": config }),
    ...(jinja !== undefined && { "chat_template.jinja": jinja }),
  });
  return new ModelTokenizer(folder, templates);
}

const words = (model: ModelTokenizer, input: Input) => model.encode(input).map((id) => TOKENS[id]);

describe("the chat template", () => {
  const named = (...names: string[]) => ({
    chat_template: names.map((name) => ({ name, template: name === "default" ? "own" : "other" })),
  });

  test.each<[string, Files, string]>([
    ["the file of the folder", { jinja: "own", config: { chat_template: "config" } }, "own"],
    ["the text in tokenizer_config.json", { config: { chat_template: "config" } }, "config"],
    ["the default of a named list", { config: named("tool_use", "default") }, "own"],
    ["the first of a named list without default", { config: named("tool_use", "rag") }, "other"],
  ])("is %s", (_, files, word) => {
    const model = tokenizer(files);
    expect(model.chatTemplate).not.toBeNull();
    expect(words(model, CHAT)).toEqual([word]);
  });

  test("is the one of the manifest, if it names one", () => {
    const file = `${folderOf({ "chat.jinja": "other" })}/chat.jinja`;
    expect(words(tokenizer({ jinja: "own" }, { chatTemplate: file }), CHAT)).toEqual(["other"]);
  });

  test("may be missing, and so may tokenizer_config.json", () => {
    expect(tokenizer({}).chatTemplate).toBeNull();
    expect(tokenizer({ config: { chat_template: null } }).chatTemplate).toBeNull();
    expect(() => tokenizer({}).encode(CHAT)).toThrow("no chat template");
  });

  test("gets the messages, the special tokens and add_generation_prompt", () => {
    const jinja =
      "{{ bos_token }}{% for m in messages %} {{ m.role }} {{ m.content }}{{ eos_token }}{% endfor %}" +
      "{% if add_generation_prompt %} assistant{% endif %}";
    for (const bos_token of ["<bos>", { content: "<bos>" }]) {
      const model = tokenizer({ jinja, config: { bos_token, eos_token: "<eos>" } });
      // No second <bos>: the template has written it.
      expect(words(model, CHAT)).toEqual(["<bos>", "user", "hi", "<eos>", "assistant"]);
    }
  });

  test("gets the role developer as system", () => {
    const model = tokenizer({ jinja: "{{ messages[0].role }}" });
    const messages = [{ role: "developer", content: "hi" } as const];
    expect(words(model, { kind: "chat", messages })).toEqual(["system"]);
  });

  test("may refuse the messages", () => {
    const model = tokenizer({ jinja: "{{ raise_exception('roles must alternate') }}" });
    expect(() => model.encode(CHAT)).toThrow("roles must alternate");
  });
});

test("a plain prompt gets the tokenizer's special tokens", () => {
  expect(words(tokenizer({}), { kind: "text", text: "hi other" })).toEqual([
    "<bos>",
    "hi",
    "other",
  ]);
});

test("a plain prompt is rendered with the prompt template, if there is one", () => {
  const model = tokenizer({}, { promptTemplate: "user {{ prompt }} assistant" });
  expect(words(model, { kind: "text", text: "hi" })).toEqual(["<bos>", "user", "hi", "assistant"]);
});

test("token ids are used unchanged", () => {
  const ids = [5, 5, 1];
  expect(tokenizer({}, { promptTemplate: "user" }).encode({ kind: "tokens", ids })).toEqual(ids);
});

test("the vocabulary contains the special tokens, decoded text does not", () => {
  const model = tokenizer({});
  expect(model.vocab.get("<eos>")).toBe(1);
  expect(model.vocab.size).toBe(TOKENS.length);
  expect(model.decode([0, 5, 1])).toBe("hi");
  expect(model.decode([])).toBe("");
});

test("the markers of calls are text, also if they are special tokens", () => {
  const model = tinyTokenizer({
    tokens: ["<unk>", "[TOOL_CALLS]", "hi"],
    special: ["<unk>", "[TOOL_CALLS]"],
  });
  expect(model.decode([0, 1, 2])).toBe("[TOOL_CALLS]hi");
  expect(model.tokenBytes(1)).toEqual(new TextEncoder().encode("[TOOL_CALLS]"));
  expect(model.silentIds).toEqual(new Set([0]));
  expect(model.encode({ kind: "text", text: "hi [TOOL_CALLS]" })).toEqual([2, 1]);
});

test("the vocabulary has no entry for an id without a token", () => {
  // Of equal words, the last has the id.
  const model = tinyTokenizer({ tokens: ["a", "a", "b", "b", "b"] });
  expect([...model.vocab]).toEqual([
    ["a", 1],
    ["b", 4],
  ]);
});

test("a text with a long run of combining characters is refused if the tokenizer normalizes", () => {
  const demo = new ModelTokenizer(DEMO_MODEL, {});
  const text = (count: number) => `a${"\u0301".repeat(count)}b`;
  expect(demo.encode({ kind: "text", text: text(256) }).length).toBeGreaterThan(256);
  expect(() => demo.encode({ kind: "text", text: text(257) })).toThrow(
    "prompt: at most 256 combining characters may follow each other, received 257",
  );
});

test("tokenizing stops at the limit", () => {
  const demo = new ModelTokenizer(DEMO_MODEL, {});
  const input: Input = { kind: "text", text: "the capital of france. ".repeat(100) };
  const count = demo.encode(input).length;
  expect(demo.encode(input, count)).toHaveLength(count);
  expect(() => demo.encode(input, count - 1)).toThrow(TooManyTokens);
  // The limit of one call does not hold for the next.
  expect(demo.encode(input)).toHaveLength(count);
});

test("decoding does not clean up: a space before a full stop stays", () => {
  const demo = new ModelTokenizer(DEMO_MODEL, {});
  const text = "it 's here , or n't .";
  expect(demo.decode(demo.encode({ kind: "text", text }))).toBe(text);
});

test("a folder without a tokenizer is refused with the name of the missing file", () => {
  const folder = folderOf({ "config.json": {} });
  expect(() => new ModelTokenizer(folder, {})).toThrow(`${folder}/tokenizer.json: ENOENT`);
});
