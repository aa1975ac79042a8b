/**
 * What crosses Redis: the validated generation, the job record around it, and the API key and tenant records.
 * Everything read back from Redis is parsed here, so a foreign or older value is an error and never a surprise.
 */
import * as v from "valibot";
import type { Grammar } from "./grammar.ts";
import { JOB_STATES, type JobEvent, type Message, type ResponseFormat } from "./contract.ts";
import { progressFields } from "./phase.ts";
import { KeyLimits, Scope } from "./policy.ts";
import { count, countOrNull, fromJson } from "./record-fields.ts";

/** A prompt as the caller gave it; each model of the ensemble renders and tokenizes it for itself. */
export type Input =
  | {
      readonly kind: "chat";
      readonly messages: readonly { role: Message["role"]; content: string }[];
    }
  | TextInput;

export type TextInput =
  | { readonly kind: "text"; readonly text: string }
  | { readonly kind: "tokens"; readonly ids: readonly number[] };

/** All that decides which tokens come out: same generation, same ensemble, same text. */
export interface Generation {
  readonly model: string;
  readonly input: Input;
  /** Tokens to generate at most. */
  readonly maxTokens: number;
  /** 0 is greedy. */
  readonly temperature: number;
  readonly topP: number;
  /** 0 keeps all. */
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
  /** Steering strength, and with a schedule the strongest that it comes to; 0 runs the base alone. */
  readonly alpha: number;
  /** [position, alpha] knots; a position is the count of tokens generated before. */
  readonly schedule?: readonly (readonly [number, number])[];
  /** Ensembles whose experts and antiexperts steer instead of the own ensemble's; all are over one base. */
  readonly pairs?: readonly { readonly model: string; readonly weight: number }[];
  readonly guards?: {
    readonly baseNucleus?: number;
    readonly klBudget?: number;
    readonly fallback?: number;
  };
  /** The text that comes, to be scored, instead of one that is drawn. */
  readonly completion?: TextInput;
  /** What the output must be; absent for any text. */
  readonly grammar?: Grammar;
  /** How many of the likeliest tokens to tell log-probabilities of, beside the token's; absent for none at all. */
  readonly logprobs?: number;
  /** Whether to tell of each token what steering did to it. */
  readonly trace?: boolean;
}

declare const VALID: unique symbol;
/** A generation within all bounds. Only `shared/validate.ts` makes one, and only this enters the queue. */
export type ValidGeneration = Generation & { readonly [VALID]: true };

/** What a request said that decides no token, and that replies say back. */
export interface Asked {
  /** How many jobs the request became, if several; only the first one says it, with whose id those of the others begin. */
  readonly choices?: number;
  /** Whether the input's first message is the `instructions` of a response. */
  readonly instructed?: boolean;
  /** The job whose conversation the input goes on with. */
  readonly previous?: string;
  readonly background?: boolean;
  /** What the grammar was made from. */
  readonly format?: Exclude<ResponseFormat, { type: "text" }>;
  /** False: the ended job is soon deleted. */
  readonly store?: boolean;
  readonly user?: string;
  readonly safetyIdentifier?: string;
  readonly promptCacheKey?: string;
  /** The batch whose line it is of. */
  readonly batch?: string;
  /** The trace that the request belongs to. */
  readonly traceparent?: string;
  /** The `x-request-id` of the request, for the logs. */
  readonly requestId?: string;
}

/** A job as it enters the system. */
export interface NewJob {
  readonly id: string;
  readonly tenant: string;
  readonly generation: ValidGeneration;
  readonly asked: Asked;
  readonly webhookUrl: string | null;
  readonly metadata: Readonly<Record<string, string>>;
  /** Unix milliseconds. */
  readonly createdAtMs: number;
  /** Unix milliseconds after which the job is expired wherever it is. */
  readonly deadlineMs: number;
  /** Unix milliseconds after which it is expired if it has not started; absent for the deadline. */
  readonly startByMs?: number;
  /** Among the jobs of its tenant; absent for 0. */
  readonly priority?: number;
}

const json = <T>() =>
  v.pipe(
    fromJson,
    v.transform((value) => value as T),
  );

/** The job hash. Values are strings in Redis; JSON members were written by us from validated values. */
export const JobRecord = v.object({
  id: v.string(),
  tenant: v.string(),
  state: v.picklist(JOB_STATES),
  /** How often a worker claimed the job; every write of a worker carries it as its fence. */
  attempt: count,
  /** Sequence number of the last event. */
  seq: count,
  generation: json<ValidGeneration>(),
  asked: v.optional(json<Asked>(), "{}"),
  webhookUrl: v.string(),
  metadata: json<Record<string, string>>(),
  createdAtMs: count,
  deadlineMs: count,
  startByMs: countOrNull,
  priority: v.optional(v.pipe(v.string(), v.transform(Number), v.integer()), "0"),
  /** Tokens that it may come to, prompt included, as they were estimated when it came. */
  cost: v.optional(count, "0"),
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
  /** Generated text, present once the job ended; before that it is the fold of the log. */
  text: v.optional(v.string(), ""),
  /** The terminal event's data, present once the job ended. */
  outcome: v.optional(fromJson),
});
export type JobRecord = v.InferOutput<typeof JobRecord>;

/** Who a request speaks for. */
export const ApiKeyRecord = v.object({
  id: v.string(),
  name: v.string(),
  tenant: v.string(),
  createdAtMs: count,
  scopes: v.pipe(fromJson, v.array(Scope)),
  limits: v.pipe(fromJson, KeyLimits),
});
export type ApiKeyRecord = v.InferOutput<typeof ApiKeyRecord>;

/** What a worker tells the edge about an ensemble it serves. */
export const ModelCard = v.object({
  id: v.string(),
  description: v.string(),
  createdAtMs: v.number(),
  contextTokens: v.number(),
  vocabSize: v.number(),
  alphaDefault: v.number(),
  alphaMax: v.number(),
  /** The same for all ensembles over one base. */
  base: v.string(),
});
export type ModelCard = v.InferOutput<typeof ModelCard>;

/** Payload of the delivery queue: which delivery, and which round of it (shared/delivery-store.ts). */
export const DeliveryPayload = v.object({ tenant: v.string(), id: v.string(), round: v.number() });
export type DeliveryPayload = v.InferOutput<typeof DeliveryPayload>;

/** Rebuilds an event from its log entry: sequence number, type and JSON data. */
export function toEvent(seq: number, type: string, data: string): JobEvent {
  return { seq, type, ...(JSON.parse(data) as object) } as JobEvent;
}
