/**
 * The door: `unknown` comes in, a ValidGeneration goes out, and nothing else makes one. First the schema (the request
 * is well formed and within the public limits), then the ensemble's own bounds, then defaults.
 */
import * as v from "valibot";
import type { JobRequest, Message } from "./contract.ts";
import { AppError } from "./errors.ts";
import { grammarOf } from "./grammar/format.ts";
import type { Generation, Input, ModelCard, TextInput, ValidGeneration } from "./job.ts";
import { LIMITS } from "./limits.ts";
import type { ChatRequest, CompletionRequest } from "./openai.ts";
import type { KeyLimits } from "./policy.ts";
import type { ScoreRequest } from "./score.ts";
import { issueError } from "./issue.ts";
import { steeringOf, type NamedPair } from "./steering.ts";

type RequestSchema<T> = v.GenericSchema<unknown, T>;

/** The fields that all three protocols share. */
type GenerationRequest = Omit<JobRequest, "messages" | "prompt">;

/** @throws AppError invalid_request, unsupported_parameter */
export function parseRequest<T>(schema: RequestSchema<T>, body: unknown): T {
  // One issue is told, so none beyond it is looked for: a body may hold half a million bad values.
  const result = v.safeParse(schema, body, { abortEarly: true });
  if (!result.success) throw issueError(result.issues[0]);
  return result.output;
}

export function inputOf(request: JobRequest | ChatRequest | ScoreRequest): Input {
  if (request.messages !== undefined) {
    return { kind: "chat", messages: request.messages.map(plainMessage) };
  }
  const prompt = "prompt" in request ? request.prompt : undefined;
  if (prompt === undefined) throw new Error("The schema lets no request pass without input");
  return textInput(prompt);
}

/** The prompts of a completion; an array of numbers is one of them. */
export function inputsOf({ prompt }: CompletionRequest): Input[] {
  if (typeof prompt === "string" || isTokens(prompt)) return [textInput(prompt)];
  return prompt.map(textInput);
}

export function textInput(prompt: string | readonly number[]): TextInput {
  return typeof prompt === "string"
    ? { kind: "text", text: prompt }
    : { kind: "tokens", ids: prompt };
}

const isTokens = (prompt: readonly unknown[]): prompt is number[] => typeof prompt[0] === "number";

/** What a generation goes on from, and the text that it is to score if it is not to be drawn. */
export interface Texts {
  readonly input: Input;
  readonly completion: TextInput | undefined;
}

/** What bounds a generation beside the schema. */
export interface Bounds {
  readonly card: ModelCard;
  readonly pairs: readonly NamedPair[] | null;
  readonly limits: KeyLimits;
  /** Jobs of the request, whose reports are read at once. */
  readonly choices: number;
}

/** @throws AppError invalid_request, context_length_exceeded */
export function toGeneration(
  request: GenerationRequest,
  { input, completion }: Texts,
  { card, pairs, limits, choices }: Bounds,
): ValidGeneration {
  checkTokens(input, completion, card);
  const generation: Generation = {
    model: card.id,
    input,
    maxTokens: request.max_tokens ?? LIMITS.maxTokensDefault,
    temperature: request.temperature ?? 1,
    topP: request.top_p ?? 1,
    topK: request.top_k ?? 0,
    minP: request.min_p ?? 0,
    repetitionPenalty: request.repetition_penalty ?? 1,
    presencePenalty: request.presence_penalty ?? 0,
    frequencyPenalty: request.frequency_penalty ?? 0,
    logitBias: biases(request, card),
    stop: typeof request.stop === "string" ? [request.stop] : (request.stop ?? []),
    seed: request.seed ?? randomSeed(),
    ...grammarFor(request),
    ...steeringOf(request.steering, card, pairs, limits),
    ...(completion && { completion }),
    ...reports(request, choices),
  };
  return generation as ValidGeneration;
}

/** The generation, and the same under the seeds that follow: the k-th is what its seed alone would have given. */
export function choicesOf(generation: ValidGeneration, n: number): ValidGeneration[] {
  const seedOf = (k: number) => (generation.seed + k) % (Number.MAX_SAFE_INTEGER + 1);
  return Array.from({ length: n }, (_, k) => ({ ...generation, seed: seedOf(k) }));
}

/** A message's text parts are paragraphs of one text. */
function plainMessage({ role, content }: Message) {
  const text = typeof content === "string" ? content : content.map((part) => part.text).join("\n");
  return { role, content: text };
}

/** Text is measured by the worker, which has the tokenizer; ids can be measured here. */
function checkTokens(input: Input, completion: TextInput | undefined, card: ModelCard): void {
  const promptTokens = checkIds(input, "prompt", card);
  if (promptTokens >= card.contextTokens) {
    throw new AppError(
      "context_length_exceeded",
      `prompt has ${promptTokens} tokens, and the context of ${card.contextTokens} tokens must also hold the answer`,
      { param: "prompt" },
    );
  }
  if (!completion) return;
  const count = checkIds(completion, "completion", card);
  if (promptTokens + count > card.contextTokens) {
    throw new AppError(
      "context_length_exceeded",
      `completion has ${count} tokens, and the context of ${card.contextTokens} tokens must also hold the prompt`,
      { param: "completion" },
    );
  }
}

/** Returns the count of ids, 0 for text. */
function checkIds(input: Input, param: string, card: ModelCard): number {
  if (input.kind !== "tokens") return 0;
  const foreign = input.ids.findIndex((id) => id >= card.vocabSize);
  if (foreign !== -1) throw notInVocabulary(`${param}.${foreign}`, input.ids[foreign], card);
  return input.ids.length;
}

function biases({ logit_bias }: GenerationRequest, card: ModelCard): [number, number][] {
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

function grammarFor({ response_format }: GenerationRequest) {
  const grammar = response_format ? grammarOf(response_format) : null;
  return grammar ? { grammar } : {};
}

/** Tokens of each job of which so much can be told. */
export function reportTokensMax(logprobs: number | null, trace: boolean, choices: number): number {
  const perToken = (logprobs === null ? 0 : 1 + logprobs) + (trace ? REPORT_ENTRIES_PER_SHIFT : 0);
  const tokens = Math.floor(LIMITS.reportEntriesMax / perToken / choices);
  return Math.min(LIMITS.maxTokensMax, tokens);
}

/** What to tell of tokens: a job's log, and who reads all choices at once, must hold all of it. */
function reports({ logprobs, steering, max_tokens }: GenerationRequest, choices: number) {
  const trace = steering?.trace ?? false;
  const tokensMax = reportTokensMax(logprobs ?? null, trace, choices);
  if ((max_tokens ?? LIMITS.maxTokensDefault) > tokensMax) {
    const message = `max_tokens must be at most ${tokensMax} with these logprobs and trace, received ${max_tokens}`;
    throw new AppError("invalid_request", message, { param: "max_tokens" });
  }
  return { ...(logprobs != null && { logprobs }), ...(trace && { trace }) };
}

/** The token, the base's, and three promoted and demoted each. */
const REPORT_ENTRIES_PER_SHIFT = 8;

/** 53 random bits: every integer that a caller could have sent. */
function randomSeed(): number {
  const [high = 0, low = 0] = crypto.getRandomValues(new Uint32Array(2));
  return (high >>> 11) * 2 ** 32 + low;
}
