/** The use of the service: tokens, jobs and seconds by day, API key and model; for the operator also by tenant. */
import * as v from "valibot";
import { ErrorCode } from "./error-codes.ts";
import { BASE_CALLS } from "./job-parts.ts";
import { LIMITS } from "./limits.ts";
import { listSchema } from "./lists.ts";
import { count, field, nonEmpty, type Reply } from "./schema.ts";

const DATE = /^\d{4}-\d{2}-\d{2}$/;

/** A day (UTC) as its number since 1970-01-01; null if it is none. */
export function dayNumber(date: string): number | null {
  const ms = DATE.test(date) ? Date.parse(date) : Number.NaN;
  if (Number.isNaN(ms)) return null;
  // JavaScript reads the 31st of February as the 3rd of March.
  const day = ms / 86_400_000;
  return dayDate(day) === date ? day : null;
}

/** The day of this number, as `2026-01-31`. */
export function dayDate(day: number): string {
  return new Date(day * 86_400_000).toISOString().slice(0, 10);
}

const date = (text: string) =>
  field(
    v.optional(
      v.pipe(
        v.string(),
        v.check((value) => dayNumber(value) !== null, "Expected a date such as 2026-01-31"),
      ),
    ),
    text,
    { examples: ["2026-01-01"] },
  );

/** Names of a comma-separated list, each once. */
const names = <const Names extends readonly [string, ...string[]]>(all: Names, text: string) =>
  field(
    v.optional(
      v.pipe(
        v.string(),
        v.transform((value) => [...new Set(value.split(","))]),
        v.array(v.picklist(all, `Expected ${all.join(", ")}, or several of these with commas`)),
      ),
      "day",
    ),
    text,
    { examples: [all.slice(0, 2).join(",")] },
  );

/** The days of a report. */
export const REPORT_DAYS = {
  from: date("The first day of the report (UTC). The default is 29 days before `to`."),
  to: date("The last day of the report (UTC). The default is today."),
};

const model = field(v.optional(nonEmpty(LIMITS.modelCharsMax)), "Only jobs of this model.", {
  examples: ["atlas-qa"],
});

/** The query of `GET /v1/usage`. */
export const USAGE_QUERY = {
  ...REPORT_DAYS,
  group_by: names(
    ["day", "key", "model"],
    "What the rows are for: `day`, `key`, `model`, or several of these with commas. Rows of the same values are added.",
  ),
  key: field(
    v.optional(nonEmpty(LIMITS.modelCharsMax)),
    "Only jobs of the API key with this id. A key without the scope `admin` sees only its own.",
    { examples: ["key_0198c2f4e5b07a31"] },
  ),
  model,
};

/** The query of `GET /v1/operator/usage`. */
export const OPERATOR_USAGE_QUERY = {
  ...REPORT_DAYS,
  group_by: names(
    ["day", "tenant", "model"],
    "What the rows are for: `day`, `tenant`, `model`, or several of these with commas. Rows of the same values are added.",
  ),
  tenant: field(v.optional(nonEmpty(LIMITS.modelCharsMax)), "Only jobs of this tenant.", {
    examples: ["acme"],
  }),
  model,
};

const sums = {
  jobs: field(count, "Jobs that ended.", { examples: [120] }),
  succeeded: field(count, "Jobs that succeeded.", { examples: [118] }),
  failed: field(count, "Jobs that failed."),
  cancelled: field(count, "Jobs that were cancelled, or deleted before they had ended."),
  expired: field(count, "Jobs whose deadline passed."),
  prompt_tokens: field(
    count,
    "Tokens of the prompts. Each choice of a request is a job with its own prompt.",
    { examples: [2_880] },
  ),
  cached_tokens: field(
    count,
    "Those of them that a worker still had in its KV cache, from an earlier prompt of the tenant.",
  ),
  completion_tokens: field(count, "Generated tokens.", { examples: [1_440] }),
  base_calls: field(count, BASE_CALLS, { examples: [960] }),
  seconds: field(
    v.number(),
    "Seconds for which workers ran the jobs. Of a job that another worker took over, only the last attempt counts.",
    { examples: [61.25] },
  ),
};

const nullable = (text: string, example: string) =>
  field(v.nullable(v.string()), text, { examples: [example] });
const day = nullable("The day (UTC) on which the jobs ended. Null for all days.", "2026-01-01");
const rowModel = nullable("The model. Null for all models.", "atlas-qa");

export const UsageSums = v.strictObject(sums);
export type UsageSums = Reply<typeof UsageSums>;

export const UsageRow = v.strictObject({
  day,
  key: nullable(
    "The id of the API key, which may be revoked. Null for all keys. `(other)`: keys and models beyond those that a day has room for.",
    "key_0198c2f4e5b07a31",
  ),
  model: rowModel,
  ...sums,
});

const report = <const Row extends v.GenericSchema>(row: Row) =>
  v.strictObject({
    object: field(v.literal("usage"), "The type of this object: `usage`."),
    from: field(v.string(), "The first day of the report.", { examples: ["2026-01-01"] }),
    to: field(v.string(), "The last day of the report.", { examples: ["2026-01-30"] }),
    data: field(v.array(row), "The rows, by their day, key or tenant, and model."),
    incomplete: field(
      v.boolean(),
      "Whether one of these days had more pairs of key (or tenant) and model than it has room for. The others count together as `(other)`: a filter by key, tenant or model leaves them out.",
      { examples: [false] },
    ),
    total: field(UsageSums, "The sums of all rows."),
  });

/** `GET /v1/usage` */
export const UsageReport = report(UsageRow);
export type UsageReport = Reply<typeof UsageReport>;

export const OperatorUsageRow = v.strictObject({
  day,
  tenant: nullable("The tenant. Null for all tenants.", "acme"),
  model: rowModel,
  ...sums,
});

/** `GET /v1/operator/usage` */
export const OperatorUsageReport = report(OperatorUsageRow);
export type OperatorUsageReport = Reply<typeof OperatorUsageReport>;

/** Jobs of a day that ended with an error. */
export const FailureCount = v.strictObject({
  object: field(v.literal("failures"), "The type of this object: `failures`."),
  day: field(v.string(), "The day (UTC) on which the jobs ended.", { examples: ["2026-01-01"] }),
  code: field(ErrorCode, "The error's code."),
  jobs: field(count, "Jobs that ended with it."),
});

/** `GET /v1/operator/failures` */
export const FailureList = listSchema(FailureCount);
