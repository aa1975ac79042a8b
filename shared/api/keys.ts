/** API keys in requests and replies: their scopes and limits, and the rule that a key grants no more than it has itself. */
import * as v from "valibot";
import { LIMITS } from "./limits.ts";
import { deletionSchema, listSchema } from "./lists.ts";
import { UsageSums } from "./usage.ts";
import { requestObject } from "./request-object.ts";
import {
  count,
  EXAMPLE_TIME,
  field,
  integer,
  nonEmpty,
  number,
  optional,
  type Reply,
} from "./schema.ts";

const rate = integer(1, LIMITS.policyRateMax);
const alpha = number(LIMITS.alphaMin, LIMITS.alphaMax);

const TENANT_SCOPES = ["jobs:write", "jobs:read", "admin"] as const;
const TENANT_SCOPES_TEXT =
  "`jobs:write` submits, cancels and deletes jobs, batches and files, `jobs:read` allows all GET requests for jobs, batches, files, models and webhooks, `admin` manages the tenant's keys and webhooks and sees the use of all of them.";

/** The scopes that a tenant's keys may have. */
export const TenantScope = v.pipe(v.picklist(TENANT_SCOPES), v.description(TENANT_SCOPES_TEXT));

export const Scope = v.pipe(
  v.picklist([...TENANT_SCOPES, "operator"]),
  v.description(
    `${TENANT_SCOPES_TEXT} \`operator\` sees the use, the queues, the running jobs and the workers of all tenants, cancels jobs, drains workers and pauses models; only the command line creates such a key.`,
  ),
);
export type Scope = v.InferOutput<typeof Scope>;

export const KeyLimits = v.strictObject({
  requests_per_minute: optional(
    rate,
    "Submissions per minute. The allowance refills continuously, and reading does not count. The default is no limit.",
    { examples: [60] },
  ),
  tokens_per_minute: optional(
    rate,
    "Tokens per minute, of prompts and outputs. A job reserves its prompt and `max_tokens`, and returns what it did not use. The default is no limit.",
    { examples: [100_000] },
  ),
  concurrent_jobs: optional(rate, "Jobs that have not ended. The default is no limit.", {
    examples: [8],
  }),
  alpha: optional(
    v.pipe(
      v.strictObject({
        min: field(
          alpha,
          "The smallest alpha. Below 0, the model is steered away from the expert.",
        ),
        max: field(alpha, "The largest alpha, at least `min`."),
      }),
      v.forward(
        v.check(({ min, max }) => min <= max, "Expected at least min"),
        ["max"],
      ),
    ),
    "The alpha range of the key, which replaces that of the models and may be wider. The default is the range of each model.",
    { examples: [{ min: -1, max: 2 }] },
  ),
  models: optional(
    v.pipe(
      v.array(nonEmpty(LIMITS.modelCharsMax)),
      v.minLength(1),
      v.maxLength(LIMITS.policyModelsMax),
    ),
    "The models that the key may use. The default is all.",
    { examples: [["atlas-qa"]] },
  ),
});
export type KeyLimits = v.InferOutput<typeof KeyLimits>;

/** The scopes and limits of an API key. */
export const KeyPolicy = v.strictObject({
  scopes: field(
    v.optional(v.pipe(v.array(TenantScope), v.minLength(1), v.maxLength(TENANT_SCOPES.length)), [
      "jobs:write",
      "jobs:read",
    ]),
    "The calls that the key allows.",
  ),
  limits: field(v.optional(KeyLimits, {}), "The limits of the key. The default is no limit."),
});
export type KeyPolicy = v.InferOutput<typeof KeyPolicy>;

/** `POST /v1/keys` */
export const KeyRequest = requestObject({
  ...KeyPolicy.entries,
  name: field(
    v.pipe(
      nonEmpty(LIMITS.modelCharsMax),
      v.check((name) => !/\p{Cc}/u.test(name), "Expected without control characters"),
    ),
    "A name to recognise the key by, without control characters.",
    { examples: ["laptop"] },
  ),
});
export type KeyRequest = v.InferOutput<typeof KeyRequest>;

/** `POST /v1/keys/{id}/rotate` */
export const KeyRotationRequest = requestObject({
  overlap: field(
    v.optional(integer(0, LIMITS.keyOverlapSecondsMax), 0),
    "Seconds for which the old secret stays valid together with the new one: up to 30 days.",
  ),
});

const apiKey = {
  id: field(v.string(), "The key's id.", { examples: ["key_0198c2f4e5b07a31"] }),
  object: field(v.literal("api_key"), "The type of this object: `api_key`."),
  name: field(v.string(), "The name that the key was created with.", { examples: ["laptop"] }),
  scopes: field(v.array(Scope), "The calls that the key allows."),
  limits: field(KeyLimits, "The limits of the key."),
  within: field(
    v.array(v.string()),
    "The limited keys whose limits of requests, tokens and jobs hold for this key as well: the key that created it, and those that this one is within.",
    { examples: [["key_0198c2f4e5b07a30"]] },
  ),
  created_at: field(v.number(), "When the key was created, as a Unix time in seconds.", {
    examples: [EXAMPLE_TIME],
  }),
};

/** An API key as its tenant sees it. */
export const ApiKey = v.strictObject(apiKey);
export type ApiKey = Reply<typeof ApiKey>;

const limitStatus = (text: string) =>
  field(
    v.nullable(
      v.strictObject({
        limit: field(count, "The limit."),
        remaining: field(count, "How much of it is left."),
      }),
    ),
    text,
    { examples: [{ limit: 600, remaining: 598 }] },
  );

/** `GET /v1/keys/me` */
export const CurrentApiKey = v.strictObject({
  ...apiKey,
  tenant: field(v.string(), "The tenant of the key.", { examples: ["acme"] }),
  remaining: field(
    v.strictObject({
      requests: limitStatus("Requests that are left in this minute. Null without a limit."),
      tokens: limitStatus("Tokens that are left in this minute. Null without a limit."),
      jobs: limitStatus("Jobs that may be submitted until others end. Null without a limit."),
    }),
    "What is left of the limits now: of the key's own, or of those of a key that it is within, whichever has less.",
  ),
  usage_today: field(UsageSums, "The use of the key's jobs that ended today (UTC)."),
});
export type CurrentApiKey = Reply<typeof CurrentApiKey>;

/** A key with a new secret. */
export const NewApiKey = v.strictObject({
  ...apiKey,
  key: field(v.string(), "The secret, which only this reply shows.", { examples: ["tt_…"] }),
});
export type NewApiKey = Reply<typeof NewApiKey>;

export const ApiKeyDeletion = deletionSchema("api_key");

/** `GET /v1/keys` */
export const ApiKeyList = listSchema(ApiKey);

/** The rights of a key, also of one of the operator. */
export type KeyGrant = Omit<KeyPolicy, "scopes"> & { readonly scopes: readonly Scope[] };

/** The path of the first scope or limit in which `policy` allows more than the `granting` key does; null if there is none. */
export function exceededLimitPath(policy: KeyGrant, granting: KeyGrant): string | null {
  const missing = policy.scopes.findIndex((scope) => !granting.scopes.includes(scope));
  if (missing !== -1) return `scopes.${missing}`;
  const [wanted, granted] = [policy.limits, granting.limits];
  for (const rate of ["requests_per_minute", "tokens_per_minute", "concurrent_jobs"] as const) {
    if ((wanted[rate] ?? Infinity) > (granted[rate] ?? Infinity)) return `limits.${rate}`;
  }
  if (!alphaWithin(wanted.alpha ?? null, granted.alpha ?? null)) return "limits.alpha";
  if (granted.models && !wanted.models?.every((model) => granted.models?.includes(model))) {
    return "limits.models";
  }
  return null;
}

type AlphaRange = KeyLimits["alpha"] | null;

/**
 * A key without an alpha range uses the ranges of the models. These are not known here, so a range cannot be compared with
 * them: either both keys have a range, or neither.
 */
function alphaWithin(wanted: AlphaRange, granted: AlphaRange): boolean {
  if (!wanted || !granted) return !wanted && !granted;
  return wanted.min >= granted.min && wanted.max <= granted.max;
}
