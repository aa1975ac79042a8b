/** What requests and replies say outside of their bodies. */
import { LIMITS } from "../../shared/limits.ts";
import type { JsonSchema } from "./schemas.ts";

interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required?: true;
  readonly description: string;
  readonly schema: JsonSchema;
}

const header = (name: string, description: string, schema: JsonSchema): Parameter => ({
  name,
  in: "header",
  description,
  schema: { type: "string", ...schema },
});
const query = (name: string, description: string, schema: JsonSchema): Parameter => ({
  name,
  in: "query",
  description,
  schema,
});

const id = (of: string): Parameter => ({
  name: "id",
  in: "path",
  required: true,
  description: `Id of ${of}.`,
  schema: { type: "string" },
});

/** Empty, it is not there. */
const CURSOR = { type: "string", pattern: "^\\d{0,15}$" };
const ID = { type: "string" };

export const PARAMETERS = {
  JobId: id("a job: `job_X`, which is also `resp_X` and `chatcmpl-job_X`"),
  ModelId: id("an ensemble; it may hold slashes"),
  KeyId: id("an API key"),
  EndpointId: id("a webhook endpoint"),
  DeliveryId: id("a webhook delivery"),
  FileId: id("a file"),
  BatchId: id("a batch"),
  IdempotencyKey: header(
    "Idempotency-Key",
    "Sent again with the same key and body within a day, the request gets its job itself; with another body, 422. Quoted, or bare without spaces.",
    { pattern: '^("([ !#-\\[\\]-~]|\\\\["\\\\]){1,255}"|[!#-~]{1,255})$' },
  ),
  CancelOnDisconnect: header(
    "Cancel-On-Disconnect",
    "Whether a client that goes before the answer is whole cancels its jobs.",
    { enum: ["true", "false", "1", "0", "?1", "?0"], default: "false" },
  ),
  Prefer: header(
    "Prefer",
    `\`wait=n\`: the reply waits for the job's end, n seconds at most (up to ${LIMITS.waitSecondsMax}).`,
    {},
  ),
  Traceparent: header(
    "traceparent",
    "W3C Trace Context: kept with the job, told by its worker's log.",
    {},
  ),
  RetryCount: header(
    "x-stainless-retry-count",
    "As the official `openai` clients send it: above 0, the same body from the same API key within 15 minutes is the same job.",
    {},
  ),
  IfNoneMatch: header("If-None-Match", "ETag of the job that the caller has.", {}),
  LastEventId: header("Last-Event-ID", "Number of the last event that the reader has.", CURSOR),
  After: query("after", "Number of the last event that the reader has.", CURSOR),
  StartingAfter: query("starting_after", "Number of the last event that the reader has.", CURSOR),
  Stream: query("stream", "Whether to stream the answer.", {
    type: "string",
    enum: ["true", "false"],
  }),
  Ticket: query("ticket", "Stands for an API key, see `POST /v1/jobs/{id}/tickets`.", {
    type: "string",
    pattern: "^tk_[\\w-]{43}$",
  }),
  Limit: query("limit", "Entries on the page.", {
    type: "integer",
    minimum: 1,
    maximum: LIMITS.pageMax,
    default: 20,
  }),
  Order: query("order", "By age.", { type: "string", enum: ["asc", "desc"], default: "desc" }),
  AfterId: query("after", "Id of the last entry of the page before.", ID),
  Purpose: query("purpose", "Files of this purpose alone.", ID),
  OfEndpoint: query("endpoint", "Deliveries to this webhook endpoint alone.", ID),
  OfJob: query("job", "Deliveries about this job alone.", ID),
  Tenant: {
    ...query("tenant", "Whose keys: see `jwks_url` of `GET /v1/webhook_keys`.", {
      type: "string",
      minLength: 1,
    }),
    required: true,
  },
} as const satisfies Record<string, Parameter>;
export type ParameterName = keyof typeof PARAMETERS;

const reply = (description: string, schema: JsonSchema = { type: "string" }) => ({
  description,
  schema,
});
const COUNT = { type: "string", pattern: "^\\d+$" };

export const HEADERS = {
  "x-request-id": reply("Names the request in logs and errors; as sent, if it was."),
  "x-trimtab-job-id": reply("The (first) job that the request made."),
  "Idempotent-Replayed": reply("The request was made before.", { type: "string", const: "true" }),
  Location: reply("Path of what was made."),
  "Preference-Applied": reply("The wait that was granted."),
  ETag: reply("Of the job as it is."),
  "RateLimit-Policy": reply(
    "The key's limits (draft-ietf-httpapi-ratelimit-headers), if it has any.",
  ),
  RateLimit: reply("What is left of them."),
  ...Object.fromEntries(
    ["requests", "tokens"].flatMap((name) => [
      [`x-ratelimit-limit-${name}`, reply(`The key's ${name} a minute.`, COUNT)],
      [`x-ratelimit-remaining-${name}`, reply("What is left of them.", COUNT)],
      [`x-ratelimit-reset-${name}`, reply("When all of it is there again, as `6s`.")],
    ]),
  ),
  "Retry-After": reply("Seconds after which a retry can help.", COUNT),
  "retry-after-ms": reply("The same in milliseconds, where it is soon.", COUNT),
  "x-should-retry": reply("Whether the official `openai` clients are to retry.", {
    type: "string",
    enum: ["true", "false"],
  }),
  "WWW-Authenticate": reply("How to authenticate."),
  Allow: reply("The methods of this path."),
};

/** Of replies to what submits jobs. */
export const SUBMISSION_HEADERS = [
  "x-trimtab-job-id",
  "Idempotent-Replayed",
  "RateLimit-Policy",
  "RateLimit",
  ...Object.keys(HEADERS).filter((name) => name.startsWith("x-ratelimit-")),
];
