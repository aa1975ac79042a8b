/** Whether a job is let in: what its API key's limits say, decided in the same step that creates it. */
import type { KeyLimits } from "./policy.ts";

/** What a submission is measured against. */
export interface Admission {
  readonly keyId: string;
  readonly limits: KeyLimits;
  /** Tokens that the job may come to; corrected to what it used when it ends. */
  readonly tokens: number;
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
