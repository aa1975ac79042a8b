/** Tokenizer and templates of a model. Only this file imports the Hugging Face library that implements tokenizers. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Tokenizer } from "@huggingface/tokenizers";
import { AppError } from "../../../shared/api/errors.ts";
import type { Input } from "../../../shared/jobs/record.ts";
import { CALL_MARKERS } from "../../../shared/tools/formats.ts";
import type { FunctionTool } from "../../../shared/tools/tools.ts";
import { addedTokens, type SpecialTokenConfig } from "./added-tokens.ts";
import {
  ChatTemplate,
  folderChatTemplate,
  type ChatTemplateSource,
  type ConfigTemplate,
  type TemplateKwargs,
} from "./chat-template.ts";
import { JinjaTemplate } from "./jinja.ts";
import { readJson } from "./json-file.ts";
import {
  promptBounds,
  utf8Length,
  type PromptBounds,
  type TokenizerSpec,
} from "./prompt-bounds.ts";
import { checkCombiningCharacters, countTokens, TooManyTokens } from "./tokenizing-limits.ts";
import {
  entryDecoder,
  isByteLevel,
  tokenTextFromBytes,
  utf8Bytes,
  type TokenizerDecoderSpec,
  type TokenText,
} from "./token-text.ts";

interface TokenizerConfig extends SpecialTokenConfig {
  readonly chat_template?: ConfigTemplate;
  readonly bos_token?: string | { content: string } | null;
  readonly eos_token?: string | { content: string } | null;
}

export interface PromptTemplates {
  /** Jinja file instead of the model's own chat template. */
  readonly chatTemplate?: string | undefined;
  /** Jinja template with the variable `prompt`, rendered for plain prompts; without it they are used unchanged. */
  readonly promptTemplate?: string | undefined;
  /** Variables of the chat template. */
  readonly chatTemplateKwargs?: TemplateKwargs | undefined;
}

/** A prompt; a chat with the functions that the model may call. */
export type PromptInput = Input & { readonly tools?: readonly FunctionTool[] };

/** Messages one after the other, for a model without a chat template. */
const PLAIN_CHAT =
  "{% for message in messages %}{{ message.content }}{% if not loop.last %}\n\n{% endif %}{% endfor %}";

/** Tokenizers by the content of their files, so that models with the same tokenizer share it. */
export type SharedTokenizers = Map<string, Tokenizer>;

export class ModelTokenizer {
  /** Tokenizers with the same key give the same token ids for every input. */
  readonly key: string;
  /** Bounds of a text's tokens by its length; null if there are none. */
  readonly bounds: PromptBounds | null;
  /** Null if the model has none; it then gets the messages of a chat as a plain prompt. */
  readonly chatTemplate: ChatTemplate | null;
  /** The template, or the one for plain messages. */
  readonly conversation: ChatTemplate;
  /** tokenizer_config.json, with the chat template. */
  readonly info: Readonly<Record<string, unknown>>;
  readonly #tokenizer: Tokenizer;
  readonly #promptTemplate: JinjaTemplate | null;
  /** Special tokens around a plain prompt; null if the tokenizer adds its own. */
  readonly #added: AddedIds | null;
  readonly #decodeEntry: (entry: string) => Uint8Array;
  readonly #isByteLevel: boolean;
  readonly #normalizes: boolean;
  readonly #tokenTexts = new Map<number, TokenText>();

  /**
   * Reads tokenizer.json, tokenizer_config.json and the chat template of a model folder.
   * @param shared tokenizers that were read before
   * @throws Error with the file if one is missing or broken
   */
  constructor(
    folder: string,
    { chatTemplate, promptTemplate, chatTemplateKwargs }: PromptTemplates,
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
    this.#isByteLevel = isByteLevel(spec.decoder ?? null);
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
    const constants = { ...specialTokens, ...chatTemplateKwargs };
    this.chatTemplate =
      template === null ? null : openTemplate(template, constants, chatTemplate ?? folder);
    this.conversation = this.chatTemplate ?? new ChatTemplate({ main: PLAIN_CHAT }, constants);
    this.#promptTemplate = promptTemplate === undefined ? null : new JinjaTemplate(promptTemplate);
    this.#added = this.#addedIds(config, specialTokens);
    const parts = [tokenizerKey, template, promptTemplate ?? null];
    this.key = sha256(JSON.stringify(chatTemplateKwargs ? [...parts, chatTemplateKwargs] : parts));
  }

  #addedIds(
    config: TokenizerConfig,
    tokens: Readonly<Record<"bos_token" | "eos_token", string>>,
  ): AddedIds | null {
    const added = addedTokens(config);
    if (!added) return null;
    const idOf = (wanted: boolean, token: string) => {
      const id = wanted && token !== "" ? this.#tokenizer.token_to_id(token) : undefined;
      return id === undefined ? [] : [id];
    };
    return {
      before: idOf(added.bos, tokens.bos_token),
      after: idOf(added.eos, tokens.eos_token),
    };
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
   * @param options.tokensMax tokens after which tokenizing stops
   * @param options.nowMs the time that a chat template sees
   * @throws Error if the template refuses the messages
   * @throws TooManyTokens
   * @throws AppError invalid_request if the tokenizer cannot represent the text
   */
  encode(
    input: PromptInput,
    { tokensMax = Number.POSITIVE_INFINITY, nowMs }: EncodeOptions = {},
  ): number[] {
    switch (input.kind) {
      case "tokens":
        return [...input.ids];
      case "text":
        return this.#encodePlain(input.text, tokensMax);
      case "chat": {
        const { messages, tools, templateKwargs: kwargs } = input;
        const text = this.conversation.render(messages, tools, { kwargs, nowMs });
        if (!this.chatTemplate) return this.#encodePlain(text, tokensMax);
        // The template has already added the special tokens.
        return this.#encodeText(text, { add_special_tokens: false }, tokensMax);
      }
    }
  }

  #encodePlain(prompt: string, tokensMax: number): number[] {
    const text = this.#promptTemplate?.render({ prompt }, Date.now()) ?? prompt;
    if (!this.#added) return this.#encodeText(text, { add_special_tokens: true }, tokensMax);
    const ids = this.#encodeText(text, { add_special_tokens: false }, tokensMax);
    return [...this.#added.before, ...ids, ...this.#added.after];
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
    if (prompt && !holds(() => prompt.render({ prompt: one }, Date.now()), one)) return false;
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
      if (bytes > tokensMax * this.bounds.tokenBytesMax) throw new TooManyTokens({ bytes });
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
    const added = this.#tokenizer.get_added_tokens_decoder().get(id);
    const bytes = added?.special ? utf8Bytes(entry) : this.#bytesOf(entry, added !== undefined);
    const text = tokenTextFromBytes(bytes);
    this.#tokenTexts.set(id, text);
    return text;
  }

  /** Bytes that a token adds to the output; null for special tokens and for unused ids. */
  tokenBytes(id: number): Uint8Array | null {
    const entry = this.#tokenizer.id_to_token(id);
    const added = this.#tokenizer.get_added_tokens_decoder().get(id);
    if (entry === undefined || added?.special) return null;
    return this.#bytesOf(entry, added !== undefined);
  }

  /** An added token has its text in a byte-level vocabulary; in others it is decoded too (Gemma's tokens of several spaces). */
  #bytesOf(entry: string, isAdded: boolean): Uint8Array {
    return isAdded && this.#isByteLevel ? utf8Bytes(entry) : this.#decodeEntry(entry);
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

/** Ids of special tokens around a prompt. */
interface AddedIds {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

export interface EncodeOptions {
  readonly tokensMax?: number;
  readonly nowMs?: number | undefined;
}

/** @throws Error with the file or folder if the template is broken */
function openTemplate(
  source: ChatTemplateSource,
  constants: TemplateKwargs,
  from: string,
): ChatTemplate {
  try {
    return new ChatTemplate(source, constants);
  } catch (error) {
    throw new Error(`${from}: the chat template is broken: ${(error as Error).message}`, {
      cause: error,
    });
  }
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
