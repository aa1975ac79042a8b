/** The phase of a job (waiting, loading, prefill, decode, ended) and its timings, from the fields of its record. */
import * as v from "valibot";
import type { Phase, Timings } from "../api/job-parts.ts";
import { count, countOrNull } from "../redis/fields.ts";

/** The fields of the job record that are about its progress: Unix milliseconds and counts of tokens. */
export const progressFields = {
  claimedAtMs: countOrNull,
  prefillAtMs: countOrNull,
  decodeAtMs: countOrNull,
  firstTokenAtMs: countOrNull,
  lastTokenAtMs: countOrNull,
  promptTokens: v.optional(count, "0"),
  /** Tokens in the log. */
  tokens: v.optional(count, "0"),
  /** Tokens in the log after the first append of the last attempt. */
  decodeTokens: v.optional(count, "0"),
  /** Runs of the base until the last token in the log, in all attempts. */
  baseCalls: v.optional(count, "0"),
};

interface JobProgress extends v.InferOutput<v.ObjectSchema<typeof progressFields, undefined>> {
  readonly createdAtMs: number;
  readonly endedAtMs: number | null;
}

export function phaseOf(job: JobProgress): Phase {
  if (job.endedAtMs !== null) return "ended";
  if (job.decodeAtMs !== null) return "decode";
  if (job.prefillAtMs !== null) return "prefill";
  return job.claimedAtMs === null ? "waiting" : "loading";
}

export function timingsOf(job: JobProgress): Timings {
  const { createdAtMs, firstTokenAtMs, decodeAtMs, lastTokenAtMs } = job;
  const decodeMs = (lastTokenAtMs ?? 0) - (decodeAtMs ?? 0);
  const decoded = job.tokens - job.decodeTokens;
  const perSecond = decodeAtMs !== null && decodeMs > 0 ? (decoded * 1000) / decodeMs : null;
  return {
    loading_at: seconds(job.claimedAtMs),
    prefill_at: seconds(job.prefillAtMs),
    decode_at: seconds(decodeAtMs),
    first_token_at: seconds(firstTokenAtMs),
    time_to_first_token: firstTokenAtMs === null ? null : seconds(firstTokenAtMs - createdAtMs),
    tokens_per_second: perSecond === null ? null : Math.round(perSecond * 100) / 100,
  };
}

/** Milliseconds as seconds, as the API has times. */
export function seconds(ms: number): number;
export function seconds(ms: number | null): number | null;
export function seconds(ms: number | null): number | null {
  return ms === null ? null : ms / 1000;
}
