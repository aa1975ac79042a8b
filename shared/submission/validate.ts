/**
 * Validation: from an unknown request body to a ValidGeneration, which only this file creates. First the schema (the request
 * is well formed and within the public limits), then the model's bounds, then the defaults.
 */
import * as v from "valibot";
import type { JobRequest } from "../api/jobs.ts";
import { contentText, type Message } from "../api/input.ts";
import { contextLengthExceeded } from "../api/context-length.ts";
import { AppError } from "../api/errors.ts";
import type { Grammar } from "../grammar/rules/grammar.ts";
import type { ChatMessage, Generation, Input, TextInput, ValidGeneration } from "../jobs/record.ts";
import type { ModelCard } from "../workers/model-card.ts";
import { LIMITS } from "../api/limits.ts";
import type { CompletionRequest } from "../api/chat-and-completions.ts";
import type { KeyLimits } from "../api/keys.ts";
import { TRACE_ENTRIES_PER_TOKEN } from "../api/token-details.ts";
import { issueError } from "../api/validation-errors.ts";
import type { ToolSettings } from "../tools/tools.ts";
import { requestSteering, type ResolvedPair } from "./steering.ts";

type RequestSchema<T> = v.GenericSchema<unknown, T>;

/** The request fields that all protocols share. */
export type GenerationFields = Omit<JobRequest, "messages" | "prompt">;

/** Checks a body against a schema. @throws AppError invalid_request, unsupported_parameter */
export function parseRequest<T>(schema: RequestSchema<T>, body: unknown): T {
  if (Array.isArray(body)) {
    throw new AppError("invalid_request", "The body must be an object, received an array");
  }
  // Only the first issue is reported, so checking stops there: a body can contain half a million wrong values.
  const result = v.safeParse(schema, body, { abortEarly: true });
  if (!result.success) throw issueError(result.issues[0]);
  return result.output;
}

/** The prompt of a request that has one. */
export function inputOf(request: {
  readonly messages?: readonly Message[] | undefined;
  readonly prompt?: string | readonly number[] | undefined;
  readonly chat_template_kwargs?: Readonly<Record<string, unknown>> | null | undefined;
}): Input {
  if (request.messages !== undefined) {
    const { chat_template_kwargs: templateKwargs } = request;
    const messages = request.messages.map(toPlainMessage);
    return { kind: "chat", messages, ...(templateKwargs && { templateKwargs }) };
  }
  const { prompt } = request;
  if (prompt === undefined)
    throw new Error("A request without messages and prompt has passed its schema");
  return textInput(prompt);
}

/** The prompts of a completion request. An array of numbers is one prompt. */
export function inputsOf({ prompt }: CompletionRequest): Input[] {
  if (typeof prompt === "string" || isTokens(prompt)) return [textInput(prompt)];
  return prompt.map(textInput);
}

/** A prompt as text, or as token ids. */
export function textInput(prompt: string | readonly number[]): TextInput {
  return typeof prompt === "string"
    ? { kind: "text", text: prompt }
    : { kind: "tokens", ids: prompt };
}

const isTokens = (prompt: readonly unknown[]): prompt is number[] => typeof prompt[0] === "number";

/** The parts of a generation that differ between the jobs of a request. */
export interface JobParts extends Pick<Generation, "input" | "completion"> {
  /** Instead of the request's `max_tokens`: how many tokens of the completion are scored at most. */
  readonly maxTokens?: number;
  readonly promptLogprobs?: NonNullable<Generation["promptLogprobs"]>;
  readonly candidates?: NonNullable<Generation["candidates"]>;
}

/** Bounds of a generation that are not in the schema. */
export interface GenerationBounds {
  readonly card: ModelCard;
  readonly pairs: readonly ResolvedPair[] | null;
  readonly limits: KeyLimits;
  /** Count of the request's jobs: their token details are read together. */
  readonly choices: number;
  /** The compiled `response_format` and `tools`; null for any text. */
  readonly grammar: Grammar | null;
  readonly tools: ToolSettings | null;
  /** Whether an output without a limit of the request may fill the context. */
  readonly fillsContext?: boolean | undefined;
}

/**
 * The generations of a request, one for each of its parts. Checks the fields of the request that the schema cannot check, and sets
 * the defaults. What the generations have in common is one value, which is stored once.
 * @throws AppError invalid_request, context_length_exceeded
 */
export function toGenerations(
  request: GenerationFields,
  parts: readonly JobParts[],
  bounds: GenerationBounds,
): ValidGeneration[] {
  const { card, pairs, limits, grammar, tools } = bounds;
  const details = tokenDetailsOptions(request);
  const common = {
    model: card.id,
    maxTokens: maxTokensOf(request, details, bounds),
    temperature: request.temperature ?? 1,
    topP: request.top_p ?? 1,
    topK: request.top_k ?? 0,
    minP: request.min_p ?? 0,
    repetitionPenalty: request.repetition_penalty ?? 1,
    presencePenalty: request.presence_penalty ?? 0,
    frequencyPenalty: request.frequency_penalty ?? 0,
    logitBias: logitBiases(request, card),
    stop: typeof request.stop === "string" ? [request.stop] : (request.stop ?? []),
    ...(grammar && { grammar }),
    ...(tools && { tools }),
    ...requestSteering(request.steering, card, pairs, limits),
    ...details,
  };
  return parts.map((part, i) => {
    const isOneOfMany = parts.length > 1 && part.completion === undefined;
    const prompt = isOneOfMany ? `prompt.${i}` : "prompt";
    checkTokens(part, prompt, { card, hasAnswer: request.max_tokens !== 0 });
    checkCandidates(part, card);
    const seed = request.seed == null ? randomSeed() : storedSeed(request.seed);
    const generation: Generation = { ...common, seed, ...part };
    return generation as ValidGeneration;
  });
}

/** The generation n times, the k-th with seed + k. Each gives the text that a request with n = 1 and its seed would give. */
export function withSuccessiveSeeds(generation: ValidGeneration, n: number): ValidGeneration[] {
  const seedOf = (k: number) => (generation.seed + k) % (Number.MAX_SAFE_INTEGER + 1);
  return Array.from({ length: n }, (_, k) => ({ ...generation, seed: seedOf(k) }));
}

/** A message with one text. */
function toPlainMessage(message: Message): ChatMessage {
  const { role, content, refusal, tool_calls, tool_call_id } = message;
  const toolCalls = tool_calls?.map((call) => ({ id: call.id, ...call.function }));
  return {
    role,
    content: contentText(content ?? "") || contentText(refusal ?? ""),
    ...(toolCalls?.length && { toolCalls }),
    ...(role === "tool" && tool_call_id != null && { toolCallId: tool_call_id }),
  };
}

/**
 * Token ids are counted here. Of texts only the bytes are known: what cannot fit the context is refused, and the rest is
 * counted by the worker, which has the tokenizers.
 */
function checkTokens(
  { input, completion }: JobParts,
  prompt: string,
  { card, hasAnswer }: { readonly card: ModelCard; readonly hasAnswer: boolean },
): void {
  checkBytes(input, prompt, card);
  if (completion) checkBytes(completion, "completion", card);
  const promptTokens = checkIds(input, prompt, card);
  if (promptTokens + (hasAnswer ? 1 : 0) > card.contextTokens) {
    const problem = `However, your prompt has ${promptTokens} tokens, and the answer needs room as well.`;
    throw contextLengthExceeded(card.contextTokens, problem, prompt);
  }
  if (!completion) return;
  const count = checkIds(completion, "completion", card);
  if (promptTokens + count > card.contextTokens) {
    const problem = `However, your completion has ${count} tokens, and the prompt needs room as well.`;
    throw contextLengthExceeded(card.contextTokens, problem, "completion");
  }
}

/** Tokens that a text has at least; the count of token ids. */
export function leastTokens(input: Input, { tokenBytesMax }: ModelCard): number {
  if (input.kind === "tokens") return input.ids.length;
  return tokenBytesMax === null ? 0 : Math.ceil(leastBytes(input) / tokenBytesMax);
}

/** Bytes of a text that certainly reach the tokenizer. */
function leastBytes(input: Exclude<Input, { kind: "tokens" }>): number {
  const texts =
    input.kind === "text"
      ? [input.text]
      : input.messages.flatMap(({ role, content }) => (role === "user" ? [content] : []));
  // Templates may drop the spaces around a text. A text has at least as many bytes as UTF-16 code units.
  return texts.reduce((sum, text) => sum + text.trim().length, 0);
}

/** @throws AppError context_length_exceeded */
function checkBytes(input: Input, textParam: string, card: ModelCard): void {
  const { contextTokens, tokenBytesMax } = card;
  if (input.kind === "tokens" || tokenBytesMax === null) return;
  const bytesMax = contextTokens * tokenBytesMax;
  const bytes = leastBytes(input);
  if (bytes <= bytesMax) return;
  const param = input.kind === "chat" ? "messages" : textParam;
  const problem = `However, your ${param} ${param === "messages" ? "have" : "has"} at least ${bytes} bytes, and that many tokens hold at most ${bytesMax}.`;
  throw contextLengthExceeded(contextTokens, problem, param);
}

/** Checks that all token ids are in the vocabulary. @returns their count; 0 for text */
function checkIds(input: Input, param: string, card: ModelCard): number {
  if (input.kind !== "tokens") return 0;
  const unknown = input.ids.findIndex((id) => id >= card.vocabSize);
  if (unknown !== -1) throw notInVocabulary(`${param}.${unknown}`, input.ids[unknown], card);
  return input.ids.length;
}

function checkCandidates({ candidates }: JobParts, card: ModelCard): void {
  if (!candidates || !("ids" in candidates)) return;
  const unknown = candidates.ids.findIndex((id) => id >= card.vocabSize);
  if (unknown === -1) return;
  throw notInVocabulary(`candidates.ids.${unknown}`, candidates.ids[unknown], card);
}

function logitBiases({ logit_bias }: GenerationFields, card: ModelCard): [number, number][] {
  return Object.entries(logit_bias ?? {}).map(([key, bias]) => {
    const id = Number(key);
    if (id >= card.vocabSize) throw notInVocabulary(`logit_bias.${key}`, id, card);
    return [id, bias];
  });
}

function notInVocabulary(param: string, id: number | undefined, card: ModelCard): AppError {
  const message = `${param}: token ids of this model are below ${card.vocabSize}, received ${id}`;
  return new AppError("invalid_request", message, { param });
}

/** How many tokens each job of a request can have with these token details. @param logprobs null for none */
function detailedTokensMax(logprobs: number | null, trace: boolean, choices: number): number {
  const tokens = Math.floor(LIMITS.reportEntriesMax / detailEntries(logprobs, trace) / choices);
  return Math.min(LIMITS.maxTokensMax, tokens);
}

/** Entries that each token reports. @param logprobs null for none */
export function detailEntries(logprobs: number | null, trace: boolean): number {
  return (logprobs === null ? 0 : 1 + logprobs) + (trace ? TRACE_ENTRIES_PER_TOKEN : 0);
}

/** Which token details to record. */
function tokenDetailsOptions({
  logprobs,
  steering,
}: GenerationFields): Pick<Generation, "logprobs" | "trace"> {
  return { ...(logprobs != null && { logprobs }), ...(steering?.trace && { trace: true }) };
}

/**
 * Tokens to generate at most. The details of all tokens must fit into a job's log, and into the reply with all choices.
 * @throws AppError invalid_request
 */
function maxTokensOf(
  { max_tokens }: GenerationFields,
  { logprobs, trace }: ReturnType<typeof tokenDetailsOptions>,
  { card, choices, fillsContext }: GenerationBounds,
): number {
  const tokensMax = detailedTokensMax(logprobs ?? null, trace ?? false, choices);
  const maxTokens = max_tokens ?? LIMITS.maxTokensDefault;
  if (maxTokens > tokensMax) {
    const message = `max_tokens must be at most ${tokensMax} with these logprobs and trace, received ${maxTokens}`;
    throw new AppError("invalid_request", message, { param: "max_tokens" });
  }
  if (max_tokens == null && fillsContext) {
    const together = Math.floor(LIMITS.requestTokensMax / choices);
    return Math.min(card.contextTokens, tokensMax, together);
  }
  return maxTokens;
}

/** The seed of a job: 0 to 2^53 - 1. JSON has already rounded one of more than 53 bits. */
const storedSeed = (seed: number) => Number(BigInt.asUintN(53, BigInt(seed)));

/** 53 random bits: any seed that a caller could have sent. */
function randomSeed(): number {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2));
  return (high >>> 11) * 2 ** 32 + low;
}
