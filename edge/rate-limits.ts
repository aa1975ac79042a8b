/** The limits of an API key at a submission: what is left afterwards, and what is refused. */
import { limitOf, type Admitted, type LimitName, type Standing } from "../shared/admission.ts";
import { AppError } from "../shared/errors.ts";
import type { AppContext } from "./context.ts";

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
