/** Whether a request's jobs are let in: what its API key's limits say, decided in the same step that creates them. */
import { AppError } from "./errors.ts";
import type { ApiKeyRecord, Generation, Input, ModelCard } from "./job.ts";
import type { KeyLimits } from "./policy.ts";

/** Only workers have the tokenizer; what a job really used is put right when it ends. */
const CHARS_PER_TOKEN = 4;

/** What a submission is measured against. */
export interface Admission {
  /** Null for what no key asked for. */
  readonly keyId: string | null;
  readonly limits: KeyLimits;
  /** Tokens that each of its jobs may come to; corrected to what a job used when it ends. */
  readonly tokens: readonly number[];
  readonly repetition: Repetition | null;
}

/** By what a request is known again. */
export interface Repetition {
  /** Redis key under which its job is remembered. */
  readonly name: string;
  /** Of the request: under the same name, another one is a mistake. */
  readonly fingerprint: string;
  /** Whether it makes a new job in any case, which its repetitions then get. */
  readonly isNew: boolean;
  readonly ttlMs: number;
}

/** What a key has left after a submission. */
export interface Standing {
  readonly requests: number;
  readonly tokens: number;
  readonly jobs: number;
}

export type LimitName = keyof Standing;

export type Admitted =
  | { readonly status: "created"; readonly standing: Standing }
  /** The request was made before: this is its (first) job. */
  | { readonly status: "existing"; readonly jobId: string }
  /** Another request was made under the same name. */
  | { readonly status: "conflict" }
  /** Nothing was created, and nothing taken. The wait is null where it depends on other jobs. */
  | {
      readonly status: "limited";
      readonly limit: LimitName;
      readonly waitMs: number | null;
      readonly standing: Standing;
    };

/** The key's limit of this name, or null. */
export function limitOf(limits: KeyLimits, name: LimitName): number | null {
  const value = {
    requests: limits.requests_per_minute,
    tokens: limits.tokens_per_minute,
    jobs: limits.concurrent_jobs,
  }[name];
  return value ?? null;
}

/**
 * @param generations of the request's jobs
 * @throws AppError invalid_request if the key's limits never allow it, however long it waits
 */
export function admissionOf(
  { id: keyId, limits }: ApiKeyRecord,
  generations: readonly Generation[],
  card: ModelCard,
): Omit<Admission, "repetition"> {
  const tokens = generations.map((generation) => tokensOf(generation, card));
  const all = tokens.reduce((sum, count) => sum + count, 0);
  const tokensMax = limitOf(limits, "tokens") ?? Infinity;
  if (all > tokensMax) {
    const param = generations[0]?.completion ? "completion" : "max_tokens";
    const message = `${param} and the prompt come to about ${all} tokens, and this API key has ${tokensMax} a minute`;
    throw new AppError("invalid_request", message, { param });
  }
  const jobsMax = limitOf(limits, "jobs") ?? Infinity;
  if (tokens.length > jobsMax) {
    const message = `n times the number of prompts must be at most ${jobsMax}, the concurrent jobs of this API key`;
    throw new AppError("invalid_request", message, { param: "n" });
  }
  return { keyId, limits, tokens };
}

/** The prompt, and what is generated or scored; together never more than a context holds. */
function tokensOf({ input, completion, maxTokens }: Generation, card: ModelCard): number {
  const rest = completion ? lengthOf(completion) : maxTokens;
  return Math.min(lengthOf(input) + rest, card.contextTokens);
}

export function lengthOf(input: Input): number {
  if (input.kind === "tokens") return input.ids.length;
  const texts = input.kind === "chat" ? input.messages.map(({ content }) => content) : [input.text];
  const chars = texts.reduce((sum, text) => sum + text.length, 0);
  return Math.ceil(chars / CHARS_PER_TOKEN);
}
