/** A model folder's tokenizer and chat template, and the only importer of the libraries that read them. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Template } from "@huggingface/jinja";
import { Tokenizer } from "@huggingface/tokenizers";
import { AppError } from "../../shared/errors.ts";
import type { Input } from "../../shared/job.ts";
import { readJson } from "./files.ts";
import { entryReader, textOf, utf8, type DecoderSpec, type TokenText } from "./token-text.ts";

interface TokenizerConfig {
  readonly chat_template?: string | readonly { name: string; template: string }[];
  readonly bos_token?: string | { content: string } | null;
  readonly eos_token?: string | { content: string } | null;
}

export interface PromptTemplates {
  /** Jinja file instead of the model's own chat template. */
  readonly chatTemplate?: string | undefined;
  /** Jinja text over `prompt` that plain prompts are put into; absent leaves them as they are. */
  readonly promptTemplate?: string | undefined;
}

export class ModelTokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #chatTemplate: Template | null;
  readonly #promptTemplate: Template | null;
  readonly #specialTokens: Record<string, string>;
  readonly #readEntry: (entry: string) => Uint8Array;
  readonly #texts = new Map<number, TokenText>();

  /** Reads tokenizer.json, tokenizer_config.json and the chat template of a model folder. */
  constructor(folder: string, { chatTemplate, promptTemplate }: PromptTemplates) {
    const configFile = join(folder, "tokenizer_config.json");
    const config = (existsSync(configFile) ? readJson(configFile) : {}) as TokenizerConfig;
    const tokenizer = readJson(join(folder, "tokenizer.json")) as { decoder?: DecoderSpec | null };
    this.#tokenizer = new Tokenizer(tokenizer, config);
    this.#readEntry = entryReader(tokenizer.decoder ?? null);
    const template = chatTemplate
      ? readFileSync(chatTemplate, "utf8")
      : ownChatTemplate(folder, config);
    this.#chatTemplate = template === null ? null : new Template(template);
    this.#promptTemplate = promptTemplate === undefined ? null : new Template(promptTemplate);
    this.#specialTokens = {
      bos_token: tokenText(config.bos_token),
      eos_token: tokenText(config.eos_token),
    };
  }

  /** Token text -> id, added tokens included. */
  get vocab(): Map<string, number> {
    const vocab: Map<string | undefined, number> = this.#tokenizer.get_vocab(true);
    // The library's entry for ids that no token has.
    vocab.delete(undefined);
    return vocab as Map<string, number>;
  }

  get hasChatTemplate(): boolean {
    return this.#chatTemplate !== null;
  }

  /** The prompt as this model wants it. */
  encode(input: Input): number[] {
    switch (input.kind) {
      case "tokens":
        return [...input.ids];
      case "text": {
        const text = this.#promptTemplate?.render({ prompt: input.text }) ?? input.text;
        return this.#idsOf(text, { add_special_tokens: true });
      }
      case "chat": {
        if (!this.#chatTemplate) throw new Error("the model has no chat template");
        const messages = input.messages.map(({ role, content }) => ({
          // Templates know the older name of the role.
          role: role === "developer" ? "system" : role,
          content,
        }));
        const text = this.#chatTemplate.render({
          messages,
          add_generation_prompt: true,
          ...this.#specialTokens,
        });
        // The template writes the special tokens itself.
        return this.#idsOf(text, { add_special_tokens: false });
      }
    }
  }

  /**
   * A text as what a model says: by itself, without any tokens around it. What `decode` gives is read back by it, and
   * special tokens are read where they are written out.
   */
  encodeCompletion(text: string): number[] {
    return this.#idsOf(text, { add_special_tokens: false }, "completion");
  }

  #idsOf(text: string, options: { add_special_tokens: boolean }, field = "prompt"): number[] {
    const ids: (number | undefined)[] = this.#tokenizer.encode(text, options).ids;
    if (ids.includes(undefined)) {
      const message = `the tokenizer has no token for a part of the ${field}`;
      throw new AppError("invalid_request", message, { param: field });
    }
    return ids as number[];
  }

  /** One token by itself; special tokens show as they are written. */
  textOf(id: number): TokenText {
    const known = this.#texts.get(id);
    if (known) return known;
    const entry = this.#tokenizer.id_to_token(id) ?? "";
    const added = this.#tokenizer.get_added_tokens_decoder().has(id);
    const text = textOf(added ? utf8(entry) : this.#readEntry(entry));
    this.#texts.set(id, text);
    return text;
  }

  /** Bytes that a token adds to a text; null if it adds none, as special tokens do and ids that no token has. */
  bytesOf(id: number): Uint8Array | null {
    const entry = this.#tokenizer.id_to_token(id);
    const added = this.#tokenizer.get_added_tokens_decoder().get(id);
    if (entry === undefined || added?.special) return null;
    return added ? utf8(entry) : this.#readEntry(entry);
  }

  /** Text of generated tokens, special tokens left out; incomplete UTF-8 shows as U+FFFD. */
  decode(ids: number[]): string {
    if (ids.length === 0) return "";
    return this.#tokenizer.decode(ids, {
      skip_special_tokens: true,
      clean_up_tokenization_spaces: false,
    });
  }
}

function ownChatTemplate(folder: string, config: TokenizerConfig): string | null {
  const file = join(folder, "chat_template.jinja");
  if (existsSync(file)) return readFileSync(file, "utf8");
  const inConfig = config.chat_template;
  if (typeof inConfig === "string") return inConfig;
  const named = inConfig?.find(({ name }) => name === "default") ?? inConfig?.[0];
  return named?.template ?? null;
}

function tokenText(token: string | { content: string } | null | undefined): string {
  return typeof token === "string" ? token : (token?.content ?? "");
}
