/** Tokenizer and templates of a model. Only this file imports the Hugging Face libraries that implement them. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import { AppError } from "../../../shared/api/errors.ts";
import type { Input } from "../../../shared/jobs/record.ts";
import { CALL_MARKERS } from "../../../shared/tools/formats.ts";
import type { FunctionTool } from "../../../shared/tools/tools.ts";
import { ChatTemplate, folderChatTemplate, type ConfigTemplate } from "./chat-template.ts";
import { readJson } from "./json-file.ts";
import {
  promptBounds,
  utf8Length,
  type PromptBounds,
  type TokenizerSpec,
} from "./prompt-bounds.ts";
import {
  entryDecoder,
  tokenTextFromBytes,
  utf8Bytes,
  type TokenizerDecoderSpec,
  type TokenText,
} from "./token-text.ts";

interface TokenizerConfig {
  readonly chat_template?: ConfigTemplate;
  readonly bos_token?: string | { content: string } | null;
  readonly eos_token?: string | { content: string } | null;
}

export interface PromptTemplates {
  /** Jinja file instead of the model's own chat template. */
  readonly chatTemplate?: string | undefined;
  /** Jinja template with the variable `prompt`, rendered for plain prompts; without it they are used unchanged. */
  readonly promptTemplate?: string | undefined;
}

/** A prompt; a chat with the functions that the model may call. */
export type PromptInput = Input & { readonly tools?: readonly FunctionTool[] };

/** Tokenizers by the content of their files, so that models with the same tokenizer share it. */
export type SharedTokenizers = Map<string, Tokenizer>;

/**
 * Most combining characters in a row. Normalizing a run takes time with the square of its length (33 s for 250,000); real
 * texts have fewer than ten.
 */
const COMBINING_CHARACTERS_MAX = 256;

/** Thrown when a text has more tokens than it may have; the rest of it is not tokenized. */
export class TooManyTokens extends Error {
  /** Bytes of the text, if they alone show that it is too long; otherwise its tokens were counted. */
  readonly bytes: number | null;

  constructor(bytes: number | null = null) {
    super("The text has too many tokens");
    this.bytes = bytes;
  }
}

export class ModelTokenizer {
  /** Tokenizers with the same key give the same token ids for every input. */
  readonly key: string;
  /** What is known of a text's tokens from its length; null if nothing is. */
  readonly bounds: PromptBounds | null;
  readonly chatTemplate: ChatTemplate | null;
  /** tokenizer_config.json, with the chat template. */
  readonly info: Readonly<Record<string, unknown>>;
  readonly #tokenizer: Tokenizer;
  readonly #promptTemplate: Template | null;
  readonly #decodeEntry: (entry: string) => Uint8Array;
  readonly #normalizes: boolean;
  readonly #tokenTexts = new Map<number, TokenText>();

  /**
   * Reads tokenizer.json, tokenizer_config.json and the chat template of a model folder.
   * @param shared tokenizers that were read before
   * @throws Error with the file if one is missing or broken
   */
  constructor(
    folder: string,
    { chatTemplate, promptTemplate }: PromptTemplates,
    shared: SharedTokenizers = new Map(),
  ) {
    const configFile = join(folder, "tokenizer_config.json");
    const config = (existsSync(configFile) ? readJson(configFile) : {}) as TokenizerConfig;
    const spec = withVisibleMarkers(
      readJson(join(folder, "tokenizer.json")) as TokenizerSpec & {
        decoder?: TokenizerDecoderSpec | null;
      },
    );
    const { chat_template: _, ...tokenizerConfig } = config;
    const tokenizerKey = sha256(JSON.stringify([spec, tokenizerConfig]));
    this.#tokenizer = shared.get(tokenizerKey) ?? new Tokenizer(spec, config);
    shared.set(tokenizerKey, this.#tokenizer);
    this.bounds = promptBounds(spec);
    this.#normalizes = spec.normalizer != null;
    this.#decodeEntry = entryDecoder(spec.decoder ?? null);
    const template = chatTemplate
      ? { main: readFileSync(chatTemplate, "utf8") }
      : folderChatTemplate(folder, config.chat_template);
    const mainTemplate = template?.main ?? null;
    this.info = {
      ...tokenizerConfig,
      ...specialTexts(tokenizerConfig),
      chat_template: mainTemplate,
    };
    const specialTokens = {
      bos_token: specialTokenText(config.bos_token),
      eos_token: specialTokenText(config.eos_token),
    };
    this.chatTemplate = template === null ? null : new ChatTemplate(template, specialTokens);
    this.#promptTemplate = promptTemplate === undefined ? null : new Template(promptTemplate);
    this.key = sha256(JSON.stringify([tokenizerKey, template, promptTemplate ?? null]));
  }

  /** Token text -> id, added tokens included. */
  get vocab(): Map<string, number> {
    const vocab: Map<string | undefined, number> = this.#tokenizer.get_vocab(true);
    // The library adds an entry `undefined` for ids that no token uses.
    vocab.delete(undefined);
    return vocab as Map<string, number>;
  }

  /**
   * Token ids of a prompt, with the model's templates and special tokens.
   * @param tokensMax tokens after which tokenizing stops
   * @throws Error if the model has no chat template, or if the template refuses the messages
   * @throws TooManyTokens
   * @throws AppError invalid_request if the tokenizer cannot represent the text
   */
  encode(input: PromptInput, tokensMax = Number.POSITIVE_INFINITY): number[] {
    switch (input.kind) {
      case "tokens":
        return [...input.ids];
      case "text": {
        const text = this.#promptTemplate?.render({ prompt: input.text }) ?? input.text;
        return this.#encodeText(text, { add_special_tokens: true }, tokensMax);
      }
      case "chat": {
        if (!this.chatTemplate) throw new Error("The model has no chat template");
        // The template has already added the special tokens.
        const text = this.chatTemplate.render(input.messages, input.tools);
        return this.#encodeText(text, { add_special_tokens: false }, tokensMax);
      }
    }
  }

  /**
   * Token ids of a text as output of the model: without a template and without added special tokens. It is the inverse of
   * `decode`. Special tokens that are written out in the text are recognised.
   * @throws TooManyTokens
   * @throws AppError invalid_request if the tokenizer cannot represent the text
   */
  encodeCompletion(
    text: string,
    tokensMax = Number.POSITIVE_INFINITY,
    field = "completion",
  ): number[] {
    return this.#encodeText(text, { add_special_tokens: false }, tokensMax, field);
  }

  /**
   * Whether the templates keep the text of prompts and of user messages, except for spaces around it. Found by rendering
   * examples. System messages and earlier answers are often left out, in whole or in part.
   */
  get keepsPrompts(): boolean {
    const [one, two, three] = ["first sample text", "second sample text", "third sample text"];
    const holds = (render: () => string, ...texts: string[]) => {
      try {
        const rendered = render();
        return texts.every((text) => rendered.includes(text));
      } catch {
        return false;
      }
    };
    const prompt = this.#promptTemplate;
    if (prompt && !holds(() => prompt.render({ prompt: one }), one)) return false;
    const chat = this.chatTemplate;
    if (!chat) return true;
    const user = { role: "user", content: one } as const;
    const answer = { role: "assistant", content: two } as const;
    const next = { role: "user", content: three } as const;
    return (
      holds(() => chat.render([user]), one) &&
      holds(() => chat.render([user, answer, next]), one, three)
    );
  }

  #encodeText(
    text: string,
    options: { add_special_tokens: boolean },
    tokensMax: number,
    field = "prompt",
  ): number[] {
    if (this.bounds) {
      const bytes = utf8Length(text);
      if (bytes > tokensMax * this.bounds.tokenBytesMax) throw new TooManyTokens(bytes);
    }
    if (this.#normalizes) checkCombiningCharacters(text, field);
    const stopCounting = countTokens(this.#tokenizer, tokensMax, this.bounds);
    try {
      const ids: (number | undefined)[] = this.#tokenizer.encode(text, options).ids;
      if (ids.includes(undefined)) {
        const message = `${field}: the model's tokenizer has no token for a part of the text`;
        throw new AppError("invalid_request", message, { param: field });
      }
      return ids as number[];
    } finally {
      stopCounting();
    }
  }

  /** Text of one token; a special token has its name as text, such as `<eos>`. */
  tokenText(id: number): TokenText {
    const known = this.#tokenTexts.get(id);
    if (known) return known;
    const entry = this.#tokenizer.id_to_token(id) ?? "";
    const added = this.#tokenizer.get_added_tokens_decoder().has(id);
    const text = tokenTextFromBytes(added ? utf8Bytes(entry) : this.#decodeEntry(entry));
    this.#tokenTexts.set(id, text);
    return text;
  }

  /** Bytes that a token adds to the output; null for special tokens and for unused ids. */
  tokenBytes(id: number): Uint8Array | null {
    const entry = this.#tokenizer.id_to_token(id);
    const added = this.#tokenizer.get_added_tokens_decoder().get(id);
    if (entry === undefined || added?.special) return null;
    return added ? utf8Bytes(entry) : this.#decodeEntry(entry);
  }

  /** Ids of special tokens: they add no text to an output. */
  get silentIds(): ReadonlySet<number> {
    const added = [...this.#tokenizer.get_added_tokens_decoder()];
    return new Set(
      added.flatMap(([id, { special }]) => (special && this.decode([id]) === "" ? [id] : [])),
    );
  }

  /** Text of generated tokens, without special tokens; incomplete UTF-8 becomes U+FFFD. */
  decode(ids: number[]): string {
    if (ids.length === 0) return "";
    return this.#tokenizer.decode(ids, {
      skip_special_tokens: true,
      clean_up_tokenization_spaces: false,
    });
  }
}

/**
 * Lets the tokenizer throw TooManyTokens as soon as a text has more tokens than it may have. The library gives all pieces of
 * a text to its model at once, so without this a text of a megabyte would be tokenized to its end before it is refused.
 * @returns a function that ends this
 */
function countTokens(
  tokenizer: Tokenizer,
  tokensMax: number,
  bounds: PromptBounds | null,
): () => void {
  const model = tokenizer.model as { encode(pieces: string[]): string[] } & Record<string, unknown>;
  const encode = model.encode.bind(model);
  const unknown = model["unk_token"];
  let left = tokensMax;
  model.encode = (pieces) => {
    const tokens: string[] = [];
    for (const piece of pieces) {
      // A long piece (a text without spaces) is one call of the library.
      if (bounds && piece.length > left * bounds.tokenCharsMax) throw new TooManyTokens();
      for (const token of encode([piece])) {
        tokens.push(token);
        // The library may join unknown tokens to one later.
        if (token !== unknown) left--;
      }
      if (left < 0) throw new TooManyTokens();
    }
    return tokens;
  };
  return () => {
    delete (model as Partial<typeof model>).encode;
  };
}

/** The tokens that mark calls of functions belong to the output, also where the tokenizer has them as special tokens. */
function withVisibleMarkers<Spec extends TokenizerSpec>(spec: Spec): Spec {
  const added_tokens = spec.added_tokens?.map((token) =>
    token.special && CALL_MARKERS.has(token.content)
      ? { ...token, special: false, normalized: token.normalized ?? false }
      : token,
  );
  return { ...spec, ...(added_tokens && { added_tokens }) };
}

/** @throws AppError invalid_request */
function checkCombiningCharacters(text: string, field: string): void {
  for (const [run] of text.matchAll(/[\p{M}\uff9e\uff9f]+/gu)) {
    if (run.length <= COMBINING_CHARACTERS_MAX) continue;
    throw new AppError(
      "invalid_request",
      `${field}: at most ${COMBINING_CHARACTERS_MAX} combining characters may follow each other, received ${run.length}`,
      { param: field },
    );
  }
}

const sha256 = (text: string) => createHash("sha256").update(text).digest("hex");

/** The special tokens of a configuration as texts: it may have them as objects. */
const specialTexts = (config: object) =>
  Object.fromEntries(
    Object.entries(config)
      .filter(([name]) => name.endsWith("_token") && !name.startsWith("add_"))
      .map(([name, token]) => [name, specialTokenText(token as string | null) || null]),
  );

function specialTokenText(token: string | { content: string } | null | undefined): string {
  return typeof token === "string" ? token : (token?.content ?? "");
}
