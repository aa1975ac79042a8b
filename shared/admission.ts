/** Whether a request's jobs are let in: what its API key's limits say, decided in the same step that creates them. */
import type { KeyLimits } from "./policy.ts";

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
