/** The limits of an API key at a submission: what it asks for, what is left afterwards, and what is refused. */
import {
  limitOf,
  type Admission,
  type Admitted,
  type LimitName,
  type Standing,
} from "../shared/admission.ts";
import { AppError } from "../shared/errors.ts";
import type { ApiKeyRecord, Generation, Input, ModelCard } from "../shared/job.ts";
import type { AppContext } from "./context.ts";

/** Only workers have the tokenizer; what a job really used is put right when it ends. */
const CHARS_PER_TOKEN = 4;
const WINDOW_SECONDS = 60;

/** The draft's unit of each quota; plain requests are its default. */
const UNITS: Readonly<Record<LimitName, string>> = {
  requests: "",
  tokens: ';qu="tokens"',
  jobs: ';qu="concurrent-requests"',
};

const NAMES: Readonly<Record<LimitName, string>> = {
  requests: "requests a minute",
  tokens: "tokens a minute",
  jobs: "jobs that have not ended",
};

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

function lengthOf(input: Input): number {
  if (input.kind === "tokens") return input.ids.length;
  const texts = input.kind === "chat" ? input.messages.map(({ content }) => content) : [input.text];
  const chars = texts.reduce((sum, text) => sum + text.length, 0);
  return Math.ceil(chars / CHARS_PER_TOKEN);
}

export function limitError(
  c: AppContext,
  { limit, waitMs }: Extract<Admitted, { status: "limited" }>,
): AppError {
  const message = `This API key has at most ${limitOf(c.var.principal.limits, limit)} ${NAMES[limit]}`;
  return new AppError("rate_limit_exceeded", message, { retryAfterMs: waitMs, violated: limit });
}

/**
 * Tells what is left in both dialects: OpenAI's `x-ratelimit-*` and the IETF's `RateLimit`
 * (draft-ietf-httpapi-ratelimit-headers). Rates refill continuously: a reset is when the whole limit is there again.
 */
export function tellLimits(c: AppContext, standing: Standing): void {
  for (const name of ["requests", "tokens", "jobs"] as const) {
    const limit = limitOf(c.var.principal.limits, name);
    if (limit === null) continue;
    const remaining = standing[name];
    const isRate = name !== "jobs";
    const resetSeconds = (WINDOW_SECONDS * (limit - remaining)) / limit;
    const reset = isRate ? `;t=${Math.ceil(resetSeconds)}` : "";
    const window = isRate ? `;w=${WINDOW_SECONDS}` : "";
    c.header("RateLimit-Policy", `"${name}";q=${limit}${UNITS[name]}${window}`, { append: true });
    c.header("RateLimit", `"${name}";r=${remaining}${reset}`, { append: true });
    if (!isRate) continue;
    c.header(`x-ratelimit-limit-${name}`, String(limit));
    c.header(`x-ratelimit-remaining-${name}`, String(remaining));
    c.header(`x-ratelimit-reset-${name}`, duration(resetSeconds));
  }
}

/** As OpenAI writes it: `350ms`, `6s`, `1m0s`. */
function duration(seconds: number): string {
  if (seconds < 1) return `${Math.ceil(seconds * 1000)}ms`;
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole}s` : `${Math.floor(whole / 60)}m${whole % 60}s`;
}
