/** The rate limits of an API key in the reply to a submission: the headers, and the error if a limit is exceeded. */
import * as v from "valibot";
import {
  keyLimit,
  type AdmissionResult,
  type LimitName,
  type RateLimitStatus,
} from "../../shared/jobs/admission.ts";
import { AppError } from "../../shared/api/errors.ts";
import { field } from "../../shared/api/schema.ts";
import type { AppContext } from "../http/context.ts";
import type { ContractPart } from "../http/route.ts";

const WINDOW_SECONDS = 60;

/** The unit of each quota in the IETF draft, where requests are the default. */
const UNITS: Readonly<Record<LimitName, string>> = {
  requests: "",
  tokens: ';qu="tokens"',
  jobs: ';qu="concurrent-requests"',
};

const DESCRIPTIONS: Readonly<Record<LimitName, string>> = {
  requests: "requests a minute",
  tokens: "tokens a minute",
  jobs: "jobs that have not ended",
};

const count = v.pipe(v.string(), v.regex(/^\d+$/));

/** The headers of one rate. */
const rateHeaders = (name: "requests" | "tokens") => ({
  [`x-ratelimit-limit-${name}`]: field(count, `The API key's ${name} per minute.`, {
    examples: ["600"],
  }),
  [`x-ratelimit-remaining-${name}`]: field(count, `The ${name} that are left now.`, {
    examples: ["598"],
  }),
  [`x-ratelimit-reset-${name}`]: field(
    v.string(),
    `The time until all ${name} are available again.`,
    {
      examples: ["350ms", "6s", "1m0s"],
    },
  ),
});

/** The contract part of routes that call `setRateLimitHeaders`. */
export const RATE_LIMITS = {
  replyHeaders: {
    "RateLimit-Policy": field(
      v.string(),
      "The API key's limits (draft-ietf-httpapi-ratelimit-headers). Absent if it has none.",
      { examples: ['"requests";q=600;w=60'] },
    ),
    RateLimit: field(
      v.string(),
      "What is left of each limit, and the seconds until all of it is available again.",
      { examples: ['"requests";r=598;t=1'] },
    ),
    ...rateHeaders("requests"),
    ...rateHeaders("tokens"),
  },
  errors: ["rate_limit_exceeded"],
} as const satisfies ContractPart;

type Limited = Extract<AdmissionResult, { status: "limited" }>;

/** The error for a submission that would exceed a limit of its API key, or of a key that it is within. */
export function limitError(
  c: AppContext,
  { limit, pool, waitMs }: Pick<Limited, "limit" | "pool" | "waitMs">,
): AppError {
  const isOwn = pool.id === c.var.principal.id;
  const subject = isOwn ? "This API key allows" : `${pool.id} and the API keys within it have`;
  const message = `${subject} at most ${keyLimit(pool.limits, limit)} ${DESCRIPTIONS[limit]}`;
  return new AppError("rate_limit_exceeded", message, {
    retryAfterMs: waitMs,
    violatedLimit: limit,
  });
}

/** The error for a submission while the tenant's requests, or its requests and ended jobs, have as many bytes as allowed. */
export function requestsFull({
  counted,
  bytesMax,
  waitMs,
}: Extract<AdmissionResult, { status: "full" }>): AppError {
  const message =
    counted === "open"
      ? `The requests of this tenant that wait or run may have at most ${bytesMax} bytes together`
      : `The jobs of this tenant may have at most ${bytesMax} bytes together: the requests that wait or run, and the requests, outputs and events of ended jobs. Delete ended jobs, or wait until they expire`;
  return new AppError("rate_limit_exceeded", message, { retryAfterMs: waitMs });
}

/**
 * Sets the headers that say how much of each limit is left: OpenAI's `x-ratelimit-*` and the IETF's `RateLimit`
 * (draft-ietf-httpapi-ratelimit-headers). Rates refill continuously, so `reset` is the time until all of a limit is
 * available again.
 */
export function setRateLimitHeaders(c: AppContext, status: RateLimitStatus): void {
  for (const name of ["requests", "tokens", "jobs"] as const) {
    const limit = keyLimit(c.var.principal.limits, name);
    if (limit === null) continue;
    const remaining = status[name];
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

/** A duration as OpenAI writes it: `350ms`, `6s`, `1m0s`. */
function duration(seconds: number): string {
  if (seconds < 1) return `${Math.ceil(seconds * 1000)}ms`;
  const whole = Math.ceil(seconds);
  return whole < 60 ? `${whole}s` : `${Math.floor(whole / 60)}m${whole % 60}s`;
}
