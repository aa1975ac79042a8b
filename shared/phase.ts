/** How far a job has come, and when: what its record tells of the way from its submission to its last token. */
import * as v from "valibot";
import { count, countOrNull } from "./record-fields.ts";

/** `waiting` for a worker, `loading` until that has room for it, `prefill` of the prompt, `decode` from the first token on. */
export const PHASES = ["waiting", "loading", "prefill", "decode", "ended"] as const;
export type Phase = (typeof PHASES)[number];

/** Unix seconds; null for what has not come. `waiting` began when the job was created. */
export interface Timings {
  /** When each phase of the last attempt began. */
  readonly loading_at: number | null;
  readonly prefill_at: number | null;
  readonly decode_at: number | null;
  /** Of any attempt. */
  readonly first_token_at: number | null;
  /** Seconds from the submission to it. */
  readonly time_to_first_token: number | null;
  /** Of the last attempt, from its first tokens to its last. */
  readonly tokens_per_second: number | null;
}

/** The fields of the record that tell it: Unix milliseconds, and counts of tokens. */
export const progressFields = {
  claimedAtMs: countOrNull,
  prefillAtMs: countOrNull,
  decodeAtMs: countOrNull,
  firstTokenAtMs: countOrNull,
  lastTokenAtMs: countOrNull,
  promptTokens: v.optional(count, "0"),
  /** In the log. */
  tokens: v.optional(count, "0"),
  /** In the log after the first append of the last attempt. */
  decodeTokens: v.optional(count, "0"),
};

interface Progressing extends v.InferOutput<v.ObjectSchema<typeof progressFields, undefined>> {
  readonly createdAtMs: number;
  readonly endedAtMs: number | null;
}

export function phaseOf(job: Progressing): Phase {
  if (job.endedAtMs !== null) return "ended";
  if (job.decodeAtMs !== null) return "decode";
  if (job.prefillAtMs !== null) return "prefill";
  return job.claimedAtMs === null ? "waiting" : "loading";
}

export function timingsOf(job: Progressing): Timings {
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

export function seconds(ms: number): number;
export function seconds(ms: number | null): number | null;
export function seconds(ms: number | null): number | null {
  return ms === null ? null : ms / 1000;
}
