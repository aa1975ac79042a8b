/** Admission control: the limits of an API key that a submission is checked against, in the step that creates its jobs. */
import type { KeyLimits } from "../api/keys.ts";
import type { IdempotencyClaim } from "../redis/idempotency.ts";

/** Limits that are counted together, for an API key and the keys within it. */
export interface LimitPool {
  readonly id: string;
  readonly limits: KeyLimits;
}

/** Limits that a submission is checked against. */
export interface Admission {
  /** The API key, then the limited keys that it is within; none for jobs without limits. */
  readonly pools: readonly LimitPool[];
  /** Estimated tokens of each job. They are reserved; when a job ends, the tokens that it did not use are given back. */
  readonly tokens: readonly number[];
  readonly idempotency: IdempotencyClaim | null;
}

/** The rest of an API key's limits after a submission. It is 0 for a limit that the key does not have. */
export interface RateLimitStatus {
  readonly requests: number;
  readonly tokens: number;
  readonly jobs: number;
}

export type LimitName = keyof RateLimitStatus;

export type AdmissionResult =
  | {
      readonly status: "created";
      readonly rateLimits: RateLimitStatus;
      /** When the jobs were created (Unix ms). */
      readonly createdAtMs: number;
    }
  /** The same request was submitted before: this is its first job. */
  | { readonly status: "existing"; readonly jobId: string }
  /** Another request was submitted with the same idempotency key. */
  | { readonly status: "conflict" }
  /** Nothing was created or reserved. `waitMs` is null if it depends on when other jobs end. */
  | {
      readonly status: "limited";
      readonly limit: LimitName;
      /** The pool whose limit it is. */
      readonly pool: LimitPool;
      readonly waitMs: number | null;
      readonly rateLimits: RateLimitStatus;
    }
  /** Nothing was created: the tenant's requests would have too many bytes in Redis. */
  | {
      readonly status: "full";
      /** "open": those that wait or run. "stored": these and the ended jobs together. */
      readonly counted: "open" | "stored";
      readonly bytesMax: number;
      /** Until enough ended jobs have expired; null if it depends on when jobs end. */
      readonly waitMs: number | null;
    };

/** The smallest limit of this name; null for none. */
export function smallestLimit(pools: readonly LimitPool[], name: LimitName): number | null {
  const limits = pools
    .map(({ limits }) => keyLimit(limits, name))
    .filter((limit) => limit !== null);
  return limits.length === 0 ? null : Math.min(...limits);
}

/** The API key's limit of this name; null for none. */
export function keyLimit(limits: KeyLimits, name: LimitName): number | null {
  const value = {
    requests: limits.requests_per_minute,
    tokens: limits.tokens_per_minute,
    jobs: limits.concurrent_jobs,
  }[name];
  return value ?? null;
}
