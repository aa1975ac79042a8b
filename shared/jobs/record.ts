/**
 * A job as it is stored in Redis: the validated generation, the options of its request, and its record.
 * Every record that is read from Redis is parsed here, so a value in a wrong form is an error.
 */
import * as v from "valibot";
import type { Grammar } from "../grammar/rules/grammar.ts";
import { JOB_STATES } from "../api/jobs.ts";
import type { Message } from "../api/input.ts";
import type { WebhookEvent } from "../api/webhooks.ts";
import { PROMPT_LOGPROBS, type ScoredTokens } from "./scored-tokens.ts";
import type { ResponseFormat } from "../api/response-formats.ts";
import type { ToolCall, ToolSettings } from "../tools/tools.ts";
import type { SentRequest } from "./sent-request.ts";
import { progressFields } from "./phase.ts";
import { count, countOrNull, fromJson } from "../redis/fields.ts";
import { requireMembers, type Members } from "./members.ts";
import { JOB_VERSION, NewerRecord, versionField } from "../redis/version.ts";

export interface ChatMessage {
  readonly role: Message["role"];
  /** Empty for a message that has only calls. */
  readonly content: string;
  /** The functions that the assistant called; absent for none. */
  readonly toolCalls?: readonly ToolCall[];
  /** The call whose result the message is; only with the role "tool". */
  readonly toolCallId?: string;
}

/** The texts of a message: its content and its calls. */
export function messageTexts({ content, toolCalls = [] }: ChatMessage): string[] {
  return [content, ...toolCalls.flatMap((call) => [call.name, call.arguments])];
}

/** A prompt as it was sent. Each model of the ensemble renders and tokenizes it with its own template and tokenizer. */
export type Input =
  | {
      readonly kind: "chat";
      readonly messages: readonly ChatMessage[];
      /** Variables of the chat templates; absent for none. */
      readonly templateKwargs?: Readonly<Record<string, unknown>>;
    }
  | TextInput;

export type TextInput =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "tokens"; readonly ids: readonly number[] };

/** Everything that affects which tokens are generated: the same generation and ensemble give the same text. */
export interface Generation extends ScoredTokens {
  readonly model: string;
  readonly input: Input;
  /** Tokens to generate at most; 0 only reads the prompt. */
  readonly maxTokens: number;
  /** 0 is greedy. */
  readonly temperature: number;
  readonly topP: number;
  /** 0 keeps all tokens. */
  readonly topK: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** [token id, bias] pairs. */
  readonly logitBias: readonly (readonly [number, number])[];
  readonly stop: readonly string[];
  /** 0 to 2^53 - 1. */
  readonly seed: number;
  /** Steering strength; with a schedule, its value of largest magnitude. 0 runs only the base. */
  readonly alpha: number;
  /** [position, alpha] knots; a position is a count of generated tokens. */
  readonly schedule?: readonly (readonly [number, number])[];
  /** Ensembles whose experts and antiexperts steer instead of those of `model`; all have the same base. */
  readonly pairs?: readonly { readonly model: string; readonly weight: number }[];
  /** Where pairs disagree about a token, only those count that have the sign of their sum; absent to add all. */
  readonly pairConflicts?: "elect";
  readonly guards?: Readonly<Partial<Record<"baseNucleus" | "klBudget" | "fallback", number>>>;
  /** Where the shift is applied; absent for everywhere. */
  readonly gate?: { readonly minEntropy?: number; readonly maxMargin?: number };
  /** Largest bound of a token that a base on another server cannot prove; absent for 0. */
  readonly baseErrorMax?: number;
  /** Draws such a token from the base alone if its bound is larger; absent to fail. */
  readonly baseErrorAction?: "base";
  /** A text to score; nothing is generated then. */
  readonly completion?: TextInput;
  /** The grammar of the output; absent for any text. */
  readonly grammar?: Grammar;
  /** The functions that the model may call: the prompt has them, and the output may have calls. Absent for none. */
  readonly tools?: ToolSettings;
  /** Report the token's log-probability and those of this many most likely tokens; absent for none. */
  readonly logprobs?: number;
  /** Report for each token how steering changed its distribution. */
  readonly trace?: boolean;
}

const MESSAGE: Members<ChatMessage> = {
  role: true,
  content: true,
  toolCalls: true,
  toolCallId: true,
};
const TOOLS: Members<ToolSettings> = {
  format: true,
  functions: true,
  choice: true,
  allowed: true,
  parallel: true,
  callsOnly: true,
};
const GUARDS: Members<NonNullable<Generation["guards"]>> = {
  baseNucleus: true,
  klBudget: true,
  fallback: true,
};
const GATE: Members<NonNullable<Generation["gate"]>> = { minEntropy: true, maxMargin: true };
const PAIR: Members<NonNullable<Generation["pairs"]>[number]> = { model: true, weight: true };

/** Every member of a stored generation. A new one raises JOB_VERSION, because an older worker must not ignore it. */
export const GENERATION: Members<Generation> = {
  model: true,
  input: true,
  maxTokens: true,
  temperature: true,
  topP: true,
  topK: true,
  minP: true,
  repetitionPenalty: true,
  presencePenalty: true,
  frequencyPenalty: true,
  logitBias: true,
  stop: true,
  seed: true,
  alpha: true,
  schedule: true,
  pairs: true,
  pairConflicts: true,
  guards: true,
  gate: true,
  baseErrorMax: true,
  baseErrorAction: true,
  completion: true,
  promptLogprobs: true,
  candidates: true,
  grammar: true,
  tools: true,
  logprobs: true,
  trace: true,
};

const INPUT_KINDS = ["chat", "text", "tokens"];

/** @throws NewerRecord if the generation has a member that this release does not know; its grammar is not checked */
function requireKnown(generation: Generation): void {
  const {
    guards = {},
    gate = {},
    pairs = [],
    promptLogprobs = {},
    tools = {},
    input,
    completion,
  } = generation;
  requireMembers(GENERATION, generation);
  requireMembers(TOOLS, tools);
  requireMembers(GUARDS, guards);
  requireMembers(GATE, gate);
  requireMembers(PROMPT_LOGPROBS, promptLogprobs);
  for (const pair of pairs) requireMembers(PAIR, pair);
  if (input.kind === "chat") for (const message of input.messages) requireMembers(MESSAGE, message);
  for (const part of [input, completion]) {
    if (part && !INPUT_KINDS.includes(part.kind)) {
      throw new NewerRecord(`Unknown input ${part.kind}`);
    }
  }
}

declare const VALID: unique symbol;
/** A generation within all bounds. Only submission/validate.ts creates one, and no other generation is queued. */
export type ValidGeneration = Generation & { readonly [VALID]: true };

/** The options of a request that do not affect the generated tokens. They are stored because replies or logs repeat them. */
export interface RequestOptions {
  /** Count of the request's jobs, if several. Only the first job has it; the ids of the others begin with its id. */
  readonly choices?: number;
  /** Whether the first message of the input is the `instructions` of a response. */
  readonly instructed?: boolean;
  /** Whether the reply begins with the prompt. */
  readonly echo?: boolean;
  /** How many of the likeliest tokens the reply lists for each token of the prompt; absent for no log-probabilities. */
  readonly promptLogprobs?: number;
  /** The job whose conversation the input continues. */
  readonly previous?: string;
  readonly background?: boolean;
  /** The protocol of a request whose end has a message of its own. */
  readonly protocol?: "responses";
  /** Whether all models of the job were reproducible at its submission; absent for false. */
  readonly reproducible?: boolean;
  /** The response format that the grammar was made from. */
  readonly format?: Exclude<ResponseFormat, { type: "text" }>;
  /** False: the job is deleted ten minutes after its end. */
  readonly store?: boolean;
  readonly user?: string;
  readonly safetyIdentifier?: string;
  readonly promptCacheKey?: string;
  /** The id of the batch that the job belongs to. */
  readonly batch?: string;
  /** The events that the webhook URL of the request gets; absent for the end. */
  readonly webhookEvents?: readonly WebhookEvent[];
  /** The trace that the request belongs to. */
  readonly traceparent?: string;
  /** The `x-request-id` of the request, for logs. */
  readonly requestId?: string;
}

/** Every member of stored request options. A new one raises JOB_VERSION, because an older process must not ignore it. */
export const REQUEST_OPTIONS: Members<RequestOptions> = {
  choices: true,
  instructed: true,
  echo: true,
  promptLogprobs: true,
  previous: true,
  background: true,
  protocol: true,
  reproducible: true,
  format: true,
  store: true,
  user: true,
  safetyIdentifier: true,
  promptCacheKey: true,
  batch: true,
  webhookEvents: true,
  traceparent: true,
  requestId: true,
};

/** A job before it is submitted. */
export interface NewJob {
  /** The request as it was sent, if this is its first job and the request is kept (sent-request.ts). */
  readonly request?: SentRequest;
  /** Else the id of that job. */
  readonly firstJob?: string;
  readonly id: string;
  readonly tenant: string;
  readonly generation: ValidGeneration;
  readonly requestOptions: RequestOptions;
  readonly webhookUrl: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  /** Milliseconds from its submission until the job expires, queued or running. */
  readonly deadlineInMs: number;
  /** Milliseconds from its submission until the job expires if it has not started; absent for the deadline. */
  readonly startByInMs?: number;
  /** The job expires at this time (Unix ms) or earlier; absent for no bound. */
  readonly deadlineMaxMs?: number;
  /** Order among the waiting jobs of its tenant, higher first; absent for 0. */
  readonly priority?: number;
}

const json = <T>() =>
  v.pipe(
    fromJson,
    v.transform((value) => value as T),
  );

/**
 * The job hash. All its values are strings. Members that are JSON were written from validated values.
 * Scripts keep more fields in it, which no process reads:
 * - request, firstJob: the request as it was sent, or the job that has it (sent-request.ts).
 * - model, facets: what the index of jobs has it under (job-index-lua.ts).
 * - flow: the flow that the job waits in, or waited in.
 * - shared: the id of the hash with the parts that it shares with other jobs of its request (stored-jobs.ts).
 * - scoredPrompt: how many of `tokens` belong to the prompt, which has log-probabilities.
 * - outputTools: its tools without their descriptions, so that its output is read without its input.
 * - bytes: length of its request, while it counts towards its flow's.
 * - pools: the ids of the API keys that its limits are counted for, separated by spaces. keyId: the first of them, which
 *   the release before reads.
 * - reservedTokens: tokens that were taken from these pools' rates at its submission; absent when they were given back.
 * - keepMs: milliseconds from its end to its deletion, if it is kept shorter than others.
 * - claimedTokens: tokens in the log when its last attempt began; -1 if that attempt was given up.
 * - startPublished: present once its start was published to webhooks (webhooks/publisher.ts).
 * - lostAttempts: attempts in a row, before the last one, whose worker was lost before it logged a token.
 */
const JobRecord = v.object({
  version: versionField(JOB_VERSION),
  id: v.string(),
  tenant: v.string(),
  state: v.picklist(JOB_STATES),
  /** How often workers have claimed the job. */
  attempt: count,
  /** Id of the last claim. With the attempt's number it is the fence (fence.ts). */
  claim: v.optional(v.string(), ""),
  /** Sequence number of the last event. */
  seq: count,
  generation: json<ValidGeneration>(),
  requestOptions: v.optional(json<RequestOptions>(), "{}"),
  webhookUrl: v.string(),
  metadata: json<Record<string, string>>(),
  createdAtMs: count,
  deadlineMs: count,
  startByMs: countOrNull,
  priority: v.optional(v.pipe(v.string(), v.transform(Number), v.integer()), "0"),
  /** Tokens that the job may need, prompt included, as estimated at submission. */
  cost: v.optional(count, "0"),
  /** The lane in which it waits or runs (queue/lanes.ts). Empty for a job of an earlier release. */
  lane: v.optional(v.string(), ""),
  /** The weights that it runs with, once it was claimed. */
  fingerprint: v.optional(v.string(), ""),
  /** How many of its attempts threw. */
  failures: v.optional(count, "0"),
  startedAtMs: countOrNull,
  ...progressFields,
  endedAtMs: countOrNull,
  deletedAtMs: countOrNull,
  cancelRequested: v.optional(
    v.pipe(
      v.string(),
      v.transform((s) => s === "1"),
    ),
    "",
  ),
  /** Generated text. Set when the job ends; before, the text is in the log. */
  text: v.optional(v.string(), ""),
  /** The data of the last event. Set when the job ends. */
  outcome: v.optional(fromJson),
});
export type JobRecord = v.InferOutput<typeof JobRecord>;

/** The fields of a job's hash that its output consists of. The text is empty until the job has ended. */
export const JobOutput = v.object({
  ...v.pick(JobRecord, ["tenant", "state", "text", "outcome"]).entries,
  /** Settings for finding the calls in the text; absent if it can have none (stored-jobs.ts). */
  outputTools: v.optional(json<ToolSettings>()),
});
export type JobOutput = v.InferOutput<typeof JobOutput>;

/**
 * Parses a job's hash.
 * @param fields with `sharedGeneration` and `sharedRequestOptions` for a job that shares parts with others (stored-jobs.ts)
 * @throws NewerRecord if a newer release must read it
 */
export function toJobRecord(fields: Readonly<Record<string, string>>): JobRecord {
  const { sharedGeneration = "{}", sharedRequestOptions = "{}" } = fields;
  const record = v.parse(JobRecord, fields);
  const generation = { ...v.parse(json<object>(), sharedGeneration), ...record.generation };
  requireKnown(generation);
  const shared = v.parse(json<RequestOptions>(), sharedRequestOptions);
  const requestOptions = { ...shared, ...record.requestOptions };
  requireMembers(REQUEST_OPTIONS, requestOptions);
  return { ...record, generation, requestOptions };
}
