/**
 * The tokenizers and templates of an ensemble: everything about it that is known without its graphs. The prepare thread makes
 * token ids with them, and the engine thread texts.
 */
import type { Input } from "../../../shared/jobs/record.ts";
import { contextLengthExceeded } from "../../../shared/api/context-length.ts";
import { AppError } from "../../../shared/api/errors.ts";
import type { PromptForm } from "../remote/api.ts";
import { contextOf, type Context } from "./context.ts";
import { isRemote, type EnsembleEntry } from "./manifest.ts";
import { readConfig } from "./model-config.ts";
import {
  ModelTokenizer,
  type EncodeOptions,
  type PromptInput,
  type SharedTokenizers,
} from "./tokenizer.ts";
import { TooManyTokens } from "./tokenizing-limits.ts";
import { chooseToolFormat, type ToolFormatChoice } from "./tool-format.ts";
import type { TokenText } from "./token-text.ts";
import { commonVocabulary } from "./vocabulary.ts";

export const ROLES = ["base", "expert", "antiexpert"] as const;
export type Role = (typeof ROLES)[number];
export type PerRole<T> = Readonly<Record<Role, T>>;

/** Token ids of the prompt for each model. Each model may have its own template; the generated tokens are the same for all. */
export type Prompts = PerRole<readonly number[]>;

export interface EnsembleTokenizers {
  readonly id: string;
  /** The shortest context of the three models. */
  readonly contextTokens: number;
  /** Messages for the log: why a context is shorter than its config.json says, and which models have no chat template. */
  readonly warnings: readonly string[];
  /** V: one more than the highest token id. */
  readonly vocabSize: number;
  /** Ids below V that no token uses; they must not be sampled. */
  readonly unusedIds: readonly number[];
  /** End-of-sequence tokens of all three models: each of them ends a generation. */
  readonly eosIds: ReadonlySet<number>;
  /** The format of calls of functions. */
  readonly toolFormat: ToolFormatChoice;
  /** Special tokens: they add no text to an output. */
  readonly silentIds: ReadonlySet<number>;
  /** Most bytes of a prompt or of user messages that one token can stand for; null if there is no bound. */
  readonly tokenBytesMax: number | null;
  /** How the base takes prompts. */
  readonly basePrompts: PromptForm;
  /** Identifies the tokenizer and templates of each model: with the same key, all prompts are the same. */
  readonly tokenizerKeys: PerRole<string>;
  /**
   * Token ids of a prompt for one model.
   * @param options.tokensMax the context
   * @param options.nowMs the time that a chat template sees; by default now
   * @throws AppError invalid_request, context_length_exceeded
   */
  readonly encodePrompt: (role: Role, input: PromptInput, options?: EncodeOptions) => number[];
  /** Models whose prompts of chats depend on the time. */
  readonly readsClock: PerRole<boolean>;
  /** Token ids of a prompt for all three models. @throws AppError invalid_request, context_length_exceeded */
  readonly encodePrompts: (input: Input, tokensMax?: number) => Prompts;
  /**
   * Token ids of a text as if the base had generated it: without special tokens.
   * @throws AppError invalid_request, context_length_exceeded
   */
  readonly encodeCompletion: (text: string, tokensMax?: number, field?: string) => number[];
  /** The base's tokenizer_config.json, with its chat template. */
  readonly tokenizerInfo: Readonly<Record<string, unknown>>;
  /** Text of generated tokens, without special tokens. */
  readonly decode: (ids: number[]) => string;
  readonly tokenText: (id: number) => TokenText;
  /** Bytes that a token adds to the output; null for special tokens and for unused ids. */
  readonly tokenBytes: (id: number) => Uint8Array | null;
}

/** An error with the id of the ensemble that it is about. */
export function ensembleError(id: string, error: unknown): Error {
  const reason = error instanceof Error ? error.message : String(error);
  return new Error(`Ensemble ${id}: ${reason}`, { cause: error });
}

/** @throws Error with the reason if the tokenizers do not fit together or cannot be loaded */
export function loadTokenizers(
  entry: EnsembleEntry,
  shared: SharedTokenizers = new Map(),
): EnsembleTokenizers {
  const tokenizers = perRole((role) => new ModelTokenizer(entry[role].path, entry[role], shared));
  const { base } = tokenizers;
  const toolFormat = chooseToolFormat(
    entry.toolFormat,
    perRole((role) => tokenizers[role].chatTemplate),
  );
  for (const role of ROLES) {
    const { chatTemplate, conversation } = tokenizers[role];
    if (!chatTemplate) conversation.useToolFormat(toolFormat.format, null);
  }
  const vocabulary = commonVocabulary(perRole((role) => tokenizers[role].vocab));
  const configs = ROLES.map((role) => readConfig(entry[role].path));
  const contexts = perRole((role) => contextOf(entry[role]));
  const eosIds = new Set(configs.flatMap((config) => config.eosIds));
  for (const id of eosIds) {
    if (id >= vocabulary.size)
      throw new Error(`eos_token_id ${id} is outside the vocabulary of ${vocabulary.size} tokens`);
  }
  const encodePrompt = (role: Role, input: PromptInput, options: EncodeOptions = {}) =>
    encode(tokenizers, role, input, { id: entry.id, ...options });
  return {
    id: entry.id,
    contextTokens: Math.min(
      ...ROLES.map((role) => contexts[role].contextTokens ?? Number.MAX_SAFE_INTEGER),
    ),
    warnings: [...templateWarnings(tokenizers), ...contextWarnings(contexts)],
    vocabSize: vocabulary.size,
    unusedIds: vocabulary.unusedIds,
    eosIds,
    toolFormat,
    silentIds: base.silentIds,
    basePrompts: isRemote(entry.base) && entry.base.api === "openai" ? entry.base.prompts : "ids",
    tokenBytesMax: base.keepsPrompts ? (base.bounds?.tokenBytesMax ?? null) : null,
    tokenizerKeys: perRole((role) => tokenizers[role].key),
    encodePrompt,
    readsClock: perRole((role) => tokenizers[role].conversation.readsClock),
    encodePrompts: (input, tokensMax) =>
      perRole((role) => encodePrompt(role, input, tokensMax === undefined ? {} : { tokensMax })),
    encodeCompletion: (text, tokensMax = Number.POSITIVE_INFINITY, field = "completion") =>
      withinContext(field, tokensMax, base, () => base.encodeCompletion(text, tokensMax, field)),
    tokenizerInfo: base.info,
    decode: (ids) => base.decode(ids),
    tokenText: (id) => base.tokenText(id),
    tokenBytes: (id) => base.tokenBytes(id),
  };
}

function contextWarnings(contexts: PerRole<Context>): string[] {
  return ROLES.flatMap((role) => {
    const { contextTokens, contextReason } = contexts[role];
    if (contextReason === null) return [];
    return [`the ${role}'s context ends at ${contextTokens} tokens: ${contextReason}`];
  });
}

/** If some models have a template, the others get the messages as they are: the setting of the paper (arXiv 2401.08565, app. A). */
export function templateWarnings(
  tokenizers: PerRole<Pick<ModelTokenizer, "chatTemplate"> | null>,
): string[] {
  const without = ROLES.filter((role) => tokenizers[role] && !tokenizers[role].chatTemplate);
  if (without.length === 0) return [];
  const effect =
    without.length === ROLES.length
      ? "so chats are refused"
      : "so of a chat it gets the messages as a plain prompt";
  return [
    `${without.join(", ")}: no chat template, ${effect}. "chatTemplate" in the manifest names a Jinja file`,
  ];
}

export function perRole<T>(create: (role: Role) => T): PerRole<T> {
  return { base: create("base"), expert: create("expert"), antiexpert: create("antiexpert") };
}

function encode(
  tokenizers: PerRole<ModelTokenizer>,
  role: Role,
  input: PromptInput,
  { id, tokensMax = Number.POSITIVE_INFINITY, nowMs }: EncodeOptions & { readonly id: string },
): number[] {
  const param = input.kind === "chat" ? "messages" : "prompt";
  if (input.kind === "chat" && !ROLES.some((role) => tokenizers[role].chatTemplate)) {
    const message = `messages: ${id} has no chat template; send a prompt instead`;
    throw new AppError("invalid_request", message, { param });
  }
  const tokenizer = tokenizers[role];
  const ids = withinContext(param, tokensMax, tokenizer, () => {
    try {
      return tokenizer.encode(input, { tokensMax, nowMs });
    } catch (error) {
      if (error instanceof AppError || error instanceof TooManyTokens) throw error;
      // A template throws to refuse a conversation: roles that do not alternate, a second system message.
      const reason = error instanceof Error ? error.message : String(error);
      const message = `messages: the chat template refuses them: ${reason}`;
      throw new AppError("invalid_request", message, { param: "messages", cause: error });
    }
  });
  if (ids.length > 0) return ids;
  throw new AppError("invalid_request", "prompt must have at least one token", { param: "prompt" });
}

function withinContext<T>(
  param: string,
  tokensMax: number,
  { bounds }: ModelTokenizer,
  encode: () => T,
): T {
  try {
    return encode();
  } catch (error) {
    if (!(error instanceof TooManyTokens)) throw error;
    const { size } = error;
    const problem =
      "tokens" in size
        ? `However, your ${param} resulted in at least ${size.tokens} tokens.`
        : `However, your ${param} resulted in ${size.bytes} bytes, and that many tokens hold at most ${tokensMax * bounds!.tokenBytesMax}.`;
    throw contextLengthExceeded(tokensMax, problem, param);
  }
}
