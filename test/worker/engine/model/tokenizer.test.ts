import { describe, expect, test } from "vitest";
import type { Input } from "../../../../shared/jobs/record.ts";
import { ModelTokenizer, type PromptTemplates } from "../../../../worker/engine/model/tokenizer.ts";
import { TooManyTokens } from "../../../../worker/engine/model/tokenizing-limits.ts";
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
  });

  test("that is broken is named with its file", () => {
    const file = `${folderOf({ "chat.jinja": "{% if" })}/chat.jinja`;
    expect(() => tokenizer({}, { chatTemplate: file })).toThrow(
      `${file}: the chat template is broken`,
    );
  });

  test("gets variables of the manifest, and of the request, which replace them", () => {
    const jinja = "{% if enable_thinking %}own{% else %}other{% endif %}";
    const model = tokenizer({ jinja }, { chatTemplateKwargs: { enable_thinking: true } });
    expect(words(model, CHAT)).toEqual(["own"]);
    const input = { ...CHAT, templateKwargs: { enable_thinking: false } } as Input;
    expect(words(model, input)).toEqual(["other"]);
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
  expect(demo.encode(input, { tokensMax: count })).toHaveLength(count);
  expect(() => demo.encode(input, { tokensMax: count - 1 })).toThrow(TooManyTokens);
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

describe("the special tokens of a plain prompt", () => {
  const hi: Input = { kind: "text", text: "user" };
  const tokens = { bos_token: "<bos>", eos_token: { content: "<eos>" } };
  test.each([
    ["as tokenizer.json has them", {}, ["<bos>", "user"]],
    [
      "as tokenizer.json has them",
      { tokenizer_class: "PreTrainedTokenizerFast", add_bos_token: false },
      ["<bos>", "user"],
    ],
    ["a BOS by default", { tokenizer_class: "LlamaTokenizerFast" }, ["<bos>", "user"]],
    ["none", { tokenizer_class: "LlamaTokenizer", add_bos_token: false }, ["user"]],
    [
      "both",
      { tokenizer_class: "GemmaTokenizer", add_eos_token: true },
      ["<bos>", "user", "<eos>"],
    ],
    ["none by default", { tokenizer_class: "GPTNeoXTokenizerFast" }, ["user"]],
  ])("%s: %o", (_, config, expected) => {
    expect(words(tokenizer({ config: { ...tokens, ...config } }), hi)).toEqual(expected);
  });

  test("a BOS that tokenizer.json does not add", () => {
    const config = { ...tokens, tokenizer_class: "LlamaTokenizerFast", add_bos_token: true };
    const folder = folderOf({
      "tokenizer.json": tokenizerJson({ tokens: TOKENS, special: ["<bos>", "<eos>"] }),
      "tokenizer_config.json": config,
    });
    expect(words(new ModelTokenizer(folder, {}), hi)).toEqual(["<bos>", "user"]);
  });
});

test("an added token of several spaces has the bytes that it is decoded to", () => {
  const tokens = ["x", "\u2581\u2581", "y"];
  const json = JSON.parse(
    tokenizerJson({
      tokens,
      special: ["\u2581\u2581"],
      decoder: { type: "Replace", pattern: { String: "\u2581" }, content: " " },
    }),
  ) as { added_tokens: { special: boolean }[] };
  json.added_tokens[0]!.special = false;
  const model = new ModelTokenizer(folderOf({ "tokenizer.json": json }), {});
  expect(model.tokenBytes(1)).toEqual(new TextEncoder().encode("  "));
  expect(model.tokenText(1)).toEqual({ token: "  " });
  expect(model.decode([0, 1])).toContain("  ");
});
