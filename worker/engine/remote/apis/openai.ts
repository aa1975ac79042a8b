/**
 * OpenAI's HTTP API, as hosted models have it: POST /completions and POST /chat/completions below the URL that OpenAI's clients
 * call `base_url`. Text in, and at most 5 (completions) or 20 (chat) log-probabilities by the texts of tokens. No token can be
 * asked for by its id, so what the list does not prove stays a bound. The row is that of the context's text: a server makes its
 * own tokens of it.
 *
 * A chat has to continue its last message, which must be the assistant's. Servers that can are told so in three ways (`FORMS`),
 * and OpenAI's own cannot. Where a reply cannot be continued, its first token is all that is known.
 * Source: openapi.yaml of github.com/openai/openai-openapi; protocol.py of vllm; docs of DeepSeek, Mistral and Together.
 */
import { BaseRow, InvalidRow, type TokenLogprob } from "../base-row.ts";
import { promptsOf, toldCount, type BaseApi, type PromptForm, type RowsQuery } from "../api.ts";
import { NoText, type TextVocabulary, type ToldToken } from "../text-vocabulary.ts";

export interface OpenAiOptions {
  readonly model: string;
  readonly top: number;
  readonly prompts: Exclude<PromptForm, "ids">;
  readonly vocabulary: TextVocabulary;
  /** The token at the beginning of each prompt; null if there is none. */
  readonly bosId: number | null;
}

interface Entry extends ToldToken {
  readonly logprob: number;
  /** llama.cpp tells it. */
  readonly id?: number;
}

interface Choice {
  readonly index: number;
  readonly logprobs: {
    /** Chat, and completions of llama.cpp. */
    readonly content?: readonly (Entry & { readonly top_logprobs: readonly Entry[] })[] | null;
    /** Completions. */
    readonly tokens?: readonly string[];
    readonly token_logprobs?: readonly number[];
    readonly top_logprobs?: readonly Readonly<Record<string, number>>[];
  } | null;
}

interface Completion {
  readonly choices: readonly Choice[];
  readonly usage?: {
    readonly prompt_tokens?: number;
    readonly prompt_tokens_details?: { readonly cached_tokens?: number } | null;
  } | null;
}

/** How a server is told that its answer continues the last message. */
interface ContinueForm {
  readonly request: object;
  readonly lastMessage: object;
}

const FORMS: readonly ContinueForm[] = [
  // Together, OpenRouter, llama.cpp.
  { request: {}, lastMessage: {} },
  // DeepSeek, Mistral.
  { request: {}, lastMessage: { prefix: true } },
  // vLLM, SGLang.
  { request: { continue_final_message: true, add_generation_prompt: false }, lastMessage: {} },
];

export function openai(options: OpenAiOptions): BaseApi {
  const { prompts, bosId } = options;
  if (prompts === "text") {
    // A server adds the first token by itself, or it does not.
    const forms = bosId === null ? [false] : [false, true];
    return withOthers(forms.map((sendsBos) => completions(options, sendsBos)));
  }
  const forms = prompts === "chat" ? FORMS : FORMS.slice(0, 1);
  return withOthers(forms.map((form) => chatCompletions(options, form)));
}

function withOthers([first, ...otherForms]: readonly BaseApi[]): BaseApi {
  return { ...first!, otherForms };
}

function completions(options: OpenAiOptions, sendsBos: boolean): BaseApi {
  const { model, vocabulary, bosId } = options;
  const textOf = (ids: readonly number[]) =>
    vocabulary.textOf(!sendsBos && ids[0] === bosId ? ids.slice(1) : ids);
  return {
    ...commonApi(options),
    rows: (query) => {
      const texts = promptsOf(query).map(textOf);
      const { top, temperature = 1 } = query;
      const prompt = texts.length === 1 ? texts[0] : texts;
      const body = { model, prompt, max_tokens: 1, temperature, top_p: 1, logprobs: top };
      return { path: "/completions", body };
    },
  };
}

function chatCompletions(options: OpenAiOptions, { request, lastMessage }: ContinueForm): BaseApi {
  const { model, vocabulary } = options;
  return {
    ...commonApi(options),
    rows: ({ context, drafts, chat, top, temperature = 1 }) => {
      const { messages, replyFrom } = chat!;
      const reply = vocabulary.textOf([...context.slice(replyFrom), ...drafts]);
      if (reply !== "" && options.prompts === "chat-start") {
        throw new NoText("it cannot continue a reply, so only the first token of one is known");
      }
      const last = { role: "assistant", content: reply, ...lastMessage };
      return {
        path: "/chat/completions",
        body: {
          model,
          messages: reply === "" ? messages : [...messages, last],
          max_tokens: 1,
          temperature,
          top_p: 1,
          logprobs: true,
          top_logprobs: top,
          ...(reply !== "" && request),
        },
      };
    },
  };
}

function commonApi({ top, prompts, vocabulary }: OpenAiOptions): Omit<BaseApi, "rows"> {
  return {
    prompts,
    unusableIds: vocabulary.unusableIds,
    topMax: top,
    topRemedy: 'Set "top" to what the server allows (often 5 for completions, 20 for chats)',
    entryBytes: 400,
    ids: null,
    tokenize: null,
    parseRows: (reply, query, vocabSize) => {
      const { choices, usage } = reply as Completion;
      const count = query.drafts.length + 1;
      if (choices.length !== count) {
        throw new InvalidRow(`${count} rows were asked for, and ${choices.length} came`);
      }
      const ordered = choices.toSorted((a, b) => a.index - b.index);
      if (ordered.some(({ index }, i) => index !== i)) throw new InvalidRow("a row is missing");
      return {
        rows: ordered.map((choice) => rowOf(choice, query, vocabSize, vocabulary)),
        cachedTokens: toldCount(usage?.prompt_tokens_details?.cached_tokens),
        computedTokens: null,
        promptTokens: count === 1 ? (usage?.prompt_tokens ?? null) : null,
      };
    },
  };
}

function rowOf(
  { logprobs }: Choice,
  { top }: RowsQuery,
  vocabSize: number,
  vocabulary: TextVocabulary,
): BaseRow {
  const { listed, drawn } = entriesOf(logprobs);
  const wanted = Math.min(top, vocabSize);
  const known = new Map<number, number>();
  const unusable: number[] = [];
  const ordered = listed.toSorted((a, b) => b.logprob - a.logprob);
  for (const entry of ordered.slice(0, wanted)) {
    const id = idOf(entry, vocabulary);
    if (id === null) unusable.push(entry.logprob);
    // Two tokens with one text: the API has one probability for it.
    else known.set(id, logSum(known.get(id), entry.logprob));
  }
  // Texts of tokens that are no text are all the same, and a reply that is a map then has only one of them.
  if (ordered.length < wanted && (unusable.length === 0 || !isMap(logprobs))) {
    throw new InvalidRow(`${wanted} tokens were asked for, and ${ordered.length} came`);
  }
  const asked = [...ordered.slice(wanted), ...drawn].flatMap((entry): TokenLogprob[] => {
    const id = idOf(entry, vocabulary);
    return id === null || known.has(id) ? [] : [[id, entry.logprob]];
  });
  return new BaseRow(vocabSize, [...known], asked, { unusable, topCount: wanted });
}

/** The most likely tokens, and the one that the server has drawn. */
function entriesOf(logprobs: Choice["logprobs"]): {
  readonly listed: readonly Entry[];
  readonly drawn: readonly Entry[];
} {
  const [first] = logprobs?.content ?? [];
  if (first) return { listed: first.top_logprobs, drawn: [first] };
  const [map] = logprobs?.top_logprobs ?? [];
  if (!map) throw new InvalidRow("it gives no log-probabilities");
  const listed = Object.entries(map).map(([token, logprob]) => ({ token, logprob }));
  const [token] = logprobs?.tokens ?? [];
  const [logprob] = logprobs?.token_logprobs ?? [];
  const drawn = token === undefined || logprob === undefined ? [] : [{ token, logprob }];
  return { listed, drawn };
}

const isMap = (logprobs: Choice["logprobs"]) => logprobs?.top_logprobs !== undefined;

/** @returns null for a token that is never sampled @throws InvalidRow if the tokenizer has no such token */
function idOf(entry: Entry, vocabulary: TextVocabulary): number | null {
  if (entry.id !== undefined) return vocabulary.isUsable(entry.id) ? entry.id : null;
  const id = vocabulary.idOf(entry);
  if (id !== undefined) return id;
  throw new InvalidRow(
    `its token ${JSON.stringify(entry.token)} is none of the tokenizer in the manifest`,
  );
}

const logSum = (one: number | undefined, other: number) =>
  one === undefined ? other : Math.log(Math.exp(one) + Math.exp(other));
