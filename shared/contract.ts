/**
 * The public wire contract: what a client may send, and what it gets back; requests in OpenAI's words are in openai.ts.
 * Requests are valibot schemas (they validate, and their types are inferred); replies are interfaces.
 * Field names follow the OpenAI API where it has a word, `steering` and `webhook` are ours.
 */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import type { ErrorCode } from "./errors.ts";
import type { QueuePlace } from "./outlook.ts";
import type { Phase, Timings } from "./phase.ts";
import type { TokenReports } from "./reports.ts";
import { WebhookUrl, type DeliveryAttempt } from "./webhook-contract.ts";

const number = (min: number, max: number) => v.pipe(v.number(), v.minValue(min), v.maxValue(max));
export const integer = (min: number, max: number) =>
  v.pipe(v.number(), v.integer(), v.minValue(min), v.maxValue(max));
export const text = (charsMax: number) => v.pipe(v.string(), v.maxLength(charsMax));
export const nonEmpty = (charsMax: number) =>
  v.pipe(v.string(), v.minLength(1), v.maxLength(charsMax));

const messageText = v.union(
  [
    text(LIMITS.promptCharsMax),
    v.pipe(
      v.array(v.strictObject({ type: v.literal("text"), text: text(LIMITS.promptCharsMax) })),
      v.maxLength(LIMITS.messagesMax),
    ),
  ],
  "Expected a string or an array of text parts",
);

const message = v.strictObject({
  role: v.picklist(["system", "developer", "user", "assistant"]),
  content: messageText,
  name: v.nullish(text(LIMITS.modelCharsMax)),
});

export const messages = v.pipe(v.array(message), v.minLength(1), v.maxLength(LIMITS.messagesMax));

export const promptTokens = v.pipe(
  v.array(integer(0, 2 ** 31 - 1)),
  v.minLength(1),
  v.maxLength(LIMITS.promptTokensMax),
);
export const prompt = v.union(
  [text(LIMITS.promptCharsMax), promptTokens],
  "Expected a string or a non-empty array of token ids",
);

const alpha = number(LIMITS.alphaMin, LIMITS.alphaMax);
const share = v.pipe(v.number(), v.gtValue(0), v.maxValue(1));

const schedule = v.pipe(
  v.array(v.strictTuple([integer(0, LIMITS.maxTokensMax), alpha])),
  v.minLength(1),
  v.maxLength(LIMITS.scheduleKnotsMax),
  v.check(
    (knots) => knots.every(([position], i) => i === 0 || position > knots[i - 1]![0]),
    "Expected knots by rising position",
  ),
);

const pairs = v.pipe(
  v.array(
    v.strictObject({
      /** An ensemble over the same base, whose expert and antiexpert are meant. */
      model: nonEmpty(LIMITS.modelCharsMax),
      /** Default: 1. */
      weight: v.nullish(v.pipe(v.number(), v.gtValue(0), v.maxValue(LIMITS.pairWeightMax))),
    }),
  ),
  v.minLength(1),
  v.maxLength(LIMITS.pairsMax),
  v.check(
    (pairs) => new Set(pairs.map(({ model }) => model)).size === pairs.length,
    "Expected different models",
  ),
);

const guards = v.strictObject({
  /** Only tokens of the base's nucleus of this mass may come out; 1 lets all. */
  base_nucleus: v.nullish(share),
  /** Nats that KL(steered || base) of a token may come to; alpha is scaled down to it. */
  kl_budget: v.nullish(v.pipe(v.number(), v.gtValue(0), v.maxValue(LIMITS.klBudgetMax))),
  /** No shift where expert and antiexpert differ by less (total variation distance). */
  fallback: v.nullish(share),
});

const steering = v.pipe(
  v.strictObject({
    /** Strength of the shift: 0 is the base alone, 1 the paper's setting. Default: the ensemble's. */
    alpha: v.nullish(alpha),
    /** Instead of alpha: [position, alpha] knots with lines between them, level before the first and after the last. */
    schedule: v.nullish(schedule),
    /** What steers instead of the ensemble's own pair: base + alpha * sum of weight * (expert - antiexpert). */
    pairs: v.nullish(pairs),
    guards: v.nullish(guards),
    /** Whether to tell of every token what steering did to it. */
    trace: v.nullish(v.boolean()),
  }),
  v.forward(
    v.check(
      ({ alpha, schedule }) => (alpha ?? null) === null || (schedule ?? null) === null,
      "Expected absent where alpha is given",
    ),
    ["schedule"],
  ),
);

const webhook = v.strictObject({
  /** Where the signed terminal event is POSTed. */
  url: WebhookUrl,
});

const schema = v.pipe(
  // As it is: a record would leave out keys that a schema may well have.
  v.custom<Readonly<Record<string, unknown>>>(
    (value) => typeof value === "object" && value !== null && !Array.isArray(value),
    "Expected an object",
  ),
  v.check(
    (schema) => JSON.stringify(schema).length <= LIMITS.schemaCharsMax,
    `Expected at most ${LIMITS.schemaCharsMax} characters of JSON`,
  ),
);

export const jsonSchema = {
  name: v.pipe(v.string(), v.regex(/^[\w-]{1,64}$/, "Expected 1 to 64 letters, digits, _ and -")),
  description: v.nullish(text(LIMITS.promptCharsMax)),
  schema,
  /** The output keeps to the schema either way. */
  strict: v.nullish(v.boolean()),
};

/** Formats that every protocol spells alike. */
export const plainFormats = [
  v.strictObject({ type: v.literal("text") }),
  v.strictObject({ type: v.literal("json_object") }),
  v.strictObject({ type: v.literal("regex"), pattern: nonEmpty(LIMITS.regexCharsMax) }),
] as const;

/** What the output must be: as OpenAI has it, and a regular expression that all of it matches. */
const responseFormat = v.variant("type", [
  ...plainFormats,
  v.strictObject({
    type: v.literal("json_schema"),
    json_schema: v.strictObject(jsonSchema),
  }),
]);
export type ResponseFormat = v.InferOutput<typeof responseFormat>;

/** Fields that every way of asking for a generation shares. */
export const generation = {
  model: nonEmpty(LIMITS.modelCharsMax),
  max_tokens: v.nullish(integer(1, LIMITS.maxTokensMax)),
  temperature: v.nullish(number(0, LIMITS.temperatureMax)),
  top_p: v.nullish(v.pipe(v.number(), v.gtValue(0), v.maxValue(1))),
  /** Keep the k likeliest tokens; 0 keeps all. */
  top_k: v.nullish(integer(0, LIMITS.topKMax)),
  /** Keep tokens at least this fraction as likely as the likeliest; 0 keeps all. */
  min_p: v.nullish(number(0, 1)),
  presence_penalty: v.nullish(number(LIMITS.penaltyMin, LIMITS.penaltyMax)),
  frequency_penalty: v.nullish(number(LIMITS.penaltyMin, LIMITS.penaltyMax)),
  repetition_penalty: v.nullish(number(LIMITS.repetitionPenaltyMin, LIMITS.repetitionPenaltyMax)),
  /** Token id -> number added to its logit. */
  logit_bias: v.nullish(
    v.pipe(
      v.record(
        v.pipe(v.string(), v.regex(/^\d{1,10}$/, "Expected a token id")),
        number(LIMITS.logitBiasMin, LIMITS.logitBiasMax),
      ),
      v.maxEntries(LIMITS.logitBiasEntriesMax),
    ),
  ),
  stop: v.nullish(
    v.union(
      [
        nonEmpty(LIMITS.stopCharsMax),
        v.pipe(v.array(nonEmpty(LIMITS.stopCharsMax)), v.maxLength(LIMITS.stopsMax)),
      ],
      `Expected a string or at most ${LIMITS.stopsMax} strings of 1 to ${LIMITS.stopCharsMax} characters`,
    ),
  ),
  seed: v.nullish(integer(0, Number.MAX_SAFE_INTEGER)),
  response_format: v.nullish(responseFormat),
  steering: v.nullish(steering),
  webhook: v.nullish(webhook),
  /** Seconds from submission within which the job must end; after that it is expired. */
  deadline: v.nullish(number(LIMITS.deadlineSecondsMin, LIMITS.deadlineSecondsMax)),
  /** Seconds from submission within which the job must start; after that it is expired. */
  start_by: v.nullish(number(LIMITS.deadlineSecondsMin, LIMITS.deadlineSecondsMax)),
  /** Among the tenant's own jobs: a higher one starts first. Default: 0. */
  priority: v.nullish(integer(LIMITS.priorityMin, LIMITS.priorityMax)),
  metadata: v.nullish(
    v.pipe(
      v.record(text(LIMITS.metadataKeyCharsMax), text(LIMITS.metadataValueCharsMax)),
      v.maxEntries(LIMITS.metadataEntriesMax),
    ),
  ),
  user: v.nullish(text(LIMITS.modelCharsMax)),
};

/** Log-probabilities of every token, and of this many of the likeliest at its place. */
export const topLogprobs = v.nullish(integer(0, LIMITS.topLogprobsMax));

export const isOneInput = ({ messages, prompt }: { messages?: unknown; prompt?: unknown }) =>
  (messages === undefined) !== (prompt === undefined);
export const ONE_INPUT = "Expected exactly one of messages and prompt";

/** `POST /v1/jobs` */
export const JobRequest = v.pipe(
  v.strictObject({
    ...generation,
    messages: v.optional(messages),
    prompt: v.optional(prompt),
    logprobs: topLogprobs,
  }),
  v.forward(
    v.check((request) => isOneInput(request), ONE_INPUT),
    ["messages"],
  ),
);
export type JobRequest = v.InferOutput<typeof JobRequest>;

export type Message = v.InferOutput<typeof message>;

/** Job states. The last four are terminal: nothing of the job changes after them. */
export const JOB_STATES = [
  "queued",
  "running",
  "succeeded",
  "failed",
  "cancelled",
  "expired",
] as const;
export type JobState = (typeof JOB_STATES)[number];
export type TerminalState = Exclude<JobState, "queued" | "running">;

export function isTerminal(state: JobState): state is TerminalState {
  return state !== "queued" && state !== "running";
}

/** Why generation ended: an end-of-sequence token or stop string, or the token limit. */
export type FinishReason = "stop" | "length";

export interface Usage {
  readonly prompt_tokens: number;
  readonly completion_tokens: number;
  readonly total_tokens: number;
  readonly prompt_tokens_details: {
    /** Tokens of the prompt that the worker still had from an earlier one of the same tenant. */
    readonly cached_tokens: number;
  };
  /**
   * Tokens drafted for the attempt that ended the job, and those of them that came out. Not OpenAI's *_prediction_tokens:
   * those are of a prediction in the request, and the rejected ones are billed.
   */
  readonly speculation: { readonly drafted_tokens: number; readonly accepted_tokens: number };
}

export interface Guards {
  readonly base_nucleus?: number;
  readonly kl_budget?: number;
  readonly fallback?: number;
}

/** The job as clients see it. Times are Unix seconds. */
export interface Job {
  readonly id: string;
  readonly object: "job";
  readonly model: string;
  readonly state: JobState;
  readonly phase: Phase;
  readonly timings: Timings;
  /** Null once it no longer waits. */
  readonly queue: QueuePlace | null;
  readonly created_at: number;
  readonly started_at: number | null;
  readonly ended_at: number | null;
  /** When the ended job is deleted; null while it has not ended. */
  readonly deleted_at: number | null;
  readonly priority: number;
  /** How often a worker took the job up; above 1 after a worker was lost. */
  readonly attempts: number;
  readonly cancel_requested: boolean;
  readonly steering: {
    /** With a schedule, the strongest that it comes to. */
    readonly alpha: number;
    readonly schedule?: readonly (readonly [number, number])[];
    readonly pairs?: readonly { readonly model: string; readonly weight: number }[];
    readonly guards?: Guards;
    readonly trace?: boolean;
  };
  readonly seed: number;
  /** Text so far; complete once the state is terminal. */
  readonly output: {
    readonly text: string;
    readonly finish_reason: FinishReason | null;
    /** Of outputs with a response format: the mean of what it took from the steered distribution at each token. */
    readonly masked_mean?: number;
  } & Omit<TokenReports, "masked">;
  /** Null until the state is terminal. */
  readonly usage: Usage | null;
  readonly error: { readonly code: ErrorCode; readonly message: string } | null;
  readonly metadata: Readonly<Record<string, string>>;
  readonly webhook: {
    readonly url: string;
    readonly deliveries: readonly DeliveryAttempt[];
  } | null;
}

/** What happens to a job, in order; `seq` counts from 1 without gaps and is the SSE event id. */
export type JobEvent = { readonly seq: number } & (
  | { readonly type: "queued" }
  | { readonly type: "started"; readonly attempt: number }
  | ({
      readonly type: "tokens";
      readonly ids: readonly number[];
      readonly text: string;
    } & TokenReports)
  | ({ readonly type: TerminalState } & Outcome)
);

/** The last event of every job. */
export type EndEvent = Extract<JobEvent, Outcome>;

export function isEnd(event: JobEvent): event is EndEvent {
  return "finish_reason" in event;
}

/** How a job ended, in full: carried by its terminal event. */
export interface Outcome {
  readonly finish_reason: FinishReason | null;
  readonly usage: Usage;
  readonly error: { readonly code: ErrorCode; readonly message: string } | null;
}

/** An ensemble as `GET /v1/models` lists it: the OpenAI members, and what steering it allows. */
export interface Model {
  readonly id: string;
  readonly object: "model";
  readonly created: number;
  readonly owned_by: string;
  readonly description: string;
  readonly context_tokens: number;
  readonly alpha: { readonly default: number; readonly max: number };
}
