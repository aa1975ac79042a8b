/** What an API key may do: its scopes, and the limits within which it may do it. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";

const whole = (max: number) =>
  v.nullish(v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(max)));
const alpha = v.pipe(v.number(), v.minValue(LIMITS.alphaMin), v.maxValue(LIMITS.alphaMax));

/** `jobs:write` submits and cancels, `jobs:read` reads what GET reads, `admin` manages the tenant's keys. */
export const Scope = v.picklist(["jobs:write", "jobs:read", "admin"]);
export type Scope = v.InferOutput<typeof Scope>;

/** Absent or null: no limit, and of alpha the ensemble's own range. */
export const KeyLimits = v.strictObject({
  /** Submissions a minute. Reading is not counted. */
  requests_per_minute: whole(LIMITS.policyRateMax),
  /** Tokens a minute, of prompts and of what is generated. */
  tokens_per_minute: whole(LIMITS.policyRateMax),
  /** Jobs that have not ended. */
  concurrent_jobs: whole(LIMITS.policyRateMax),
  /** Replaces the ensemble's range, and may be wider: below 0 an expert is steered away from. */
  alpha: v.nullish(
    v.pipe(
      v.strictObject({ min: alpha, max: alpha }),
      v.forward(
        v.check(({ min, max }) => min <= max, "Expected at least min"),
        ["max"],
      ),
    ),
  ),
  /** Ensembles that the key may use. */
  models: v.nullish(
    v.pipe(
      v.array(v.pipe(v.string(), v.minLength(1), v.maxLength(LIMITS.modelCharsMax))),
      v.minLength(1),
      v.maxLength(LIMITS.policyModelsMax),
    ),
  ),
});
export type KeyLimits = v.InferOutput<typeof KeyLimits>;

export const Policy = v.strictObject({
  scopes: v.optional(v.pipe(v.array(Scope), v.minLength(1), v.maxLength(Scope.options.length)), [
    "jobs:write",
    "jobs:read",
  ]),
  limits: v.optional(KeyLimits, {}),
});
export type Policy = v.InferOutput<typeof Policy>;

/** `POST /v1/keys` */
export const KeyRequest = v.strictObject({
  ...Policy.entries,
  /** What the key is for. */
  name: v.pipe(
    v.string(),
    v.minLength(1),
    v.maxLength(LIMITS.modelCharsMax),
    v.check((name) => !/\p{Cc}/u.test(name), "Expected without control characters"),
  ),
});
export type KeyRequest = v.InferOutput<typeof KeyRequest>;

/** `POST /v1/keys/{id}/rotate` */
export const RotateRequest = v.strictObject({
  /** Seconds for which the old key works beside the new one. */
  overlap: v.optional(
    v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(LIMITS.keyOverlapSecondsMax)),
    0,
  ),
});

/** An API key as its tenant sees it. */
export interface ApiKey {
  readonly id: string;
  readonly object: "api_key";
  readonly name: string;
  readonly scopes: readonly Scope[];
  readonly limits: KeyLimits;
  /** Unix seconds. */
  readonly created_at: number;
}

/** A key as its maker gets it, once. */
export interface NewApiKey extends ApiKey {
  readonly key: string;
}

/** The first limit in which a policy goes beyond the one that hands it on, or null. */
export function beyond(policy: Policy, granting: Policy): string | null {
  const foreign = policy.scopes.findIndex((scope) => !granting.scopes.includes(scope));
  if (foreign !== -1) return `scopes.${foreign}`;
  const [asked, held] = [policy.limits, granting.limits];
  for (const rate of ["requests_per_minute", "tokens_per_minute", "concurrent_jobs"] as const) {
    if ((asked[rate] ?? Infinity) > (held[rate] ?? Infinity)) return `limits.${rate}`;
  }
  if (!alphaWithin(asked.alpha ?? null, held.alpha ?? null)) return "limits.alpha";
  if (held.models && !asked.models?.every((model) => held.models?.includes(model))) {
    return "limits.models";
  }
  return null;
}

type AlphaRange = KeyLimits["alpha"] | null;

/** Without a range of its own a key has the ensembles', which are not known here: it can hand on only that. */
function alphaWithin(asked: AlphaRange, held: AlphaRange): boolean {
  if (!asked || !held) return !asked && !held;
  return asked.min >= held.min && asked.max <= held.max;
}
