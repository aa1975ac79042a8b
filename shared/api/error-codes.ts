/** The table of the API's error codes: when each happens, its HTTP status, and whether a retry helps. */
import * as v from "valibot";

export const ERROR_TYPES = [
  "invalid_request_error",
  "authentication_error",
  "permission_error",
  "rate_limit_error",
  "server_error",
] as const;

export interface ErrorEntry {
  /** HTTP status of a reply with this error. */
  readonly status: number;
  /** The error's type in OpenAI's API. */
  readonly type: (typeof ERROR_TYPES)[number];
  readonly title: string;
  /** When it happens, and what the caller can do. */
  readonly description: string;
  /** Whether the same request can succeed later. */
  readonly retry: boolean;
}

/** By code. */
export const ERRORS = {
  invalid_request: {
    status: 400,
    type: "invalid_request_error",
    title: "Invalid request",
    description:
      "The request is malformed or outside a limit. `param` names the field, and `message` its limit: correct the request.",
    retry: false,
  },
  unsupported_parameter: {
    status: 400,
    type: "invalid_request_error",
    title: "Unsupported parameter",
    description:
      "The request has a field, or a value of a field, that this server does not support. Leave out the field that `param` names.",
    retry: false,
  },
  context_length_exceeded: {
    status: 400,
    type: "invalid_request_error",
    title: "Context too long",
    description:
      "Prompt and output do not fit the model's context length together. Shorten the prompt.",
    retry: false,
  },
  invalid_api_key: {
    status: 401,
    type: "authentication_error",
    title: "Invalid API key",
    description:
      "The request has no API key, or one that is unknown or revoked. Send `Authorization: Bearer tt_…` with a valid key.",
    retry: false,
  },
  permission_denied: {
    status: 403,
    type: "permission_error",
    title: "Permission denied",
    description:
      "The API key or ticket is valid and does not allow this call: a scope, a model or a limit of the key is missing. Use another key.",
    retry: false,
  },
  not_found: {
    status: 404,
    type: "invalid_request_error",
    title: "Not found",
    description:
      "There is nothing at this path, or the object does not exist, was deleted, or belongs to another tenant.",
    retry: false,
  },
  model_not_found: {
    status: 404,
    type: "invalid_request_error",
    title: "Model not found",
    description:
      "No running worker serves this model. `GET /v1/models` lists the models that the key may use.",
    retry: false,
  },
  method_not_allowed: {
    status: 405,
    type: "invalid_request_error",
    title: "Method not allowed",
    description:
      "The path does not take this HTTP method. The `Allow` header lists the methods that it takes.",
    retry: false,
  },
  request_timeout: {
    status: 408,
    type: "invalid_request_error",
    title: "Request timeout",
    description:
      "The request's body did not arrive in time: within a minute for JSON, an hour for a file, without a pause of 30 seconds. Send it again.",
    retry: true,
  },
  events_lost: {
    status: 410,
    type: "invalid_request_error",
    title: "Events lost",
    description:
      "The reader has events that the server does not have: a failover of Redis has lost the last ones, and the job has other events under their numbers. Read the events again from the first.",
    retry: false,
  },
  payload_too_large: {
    status: 413,
    type: "invalid_request_error",
    title: "Body too large",
    description: "The request body or the file is too large. `message` names the limit in bytes.",
    retry: false,
  },
  unsupported_media_type: {
    status: 415,
    type: "invalid_request_error",
    title: "Compressed body",
    description: "The request body is compressed (`Content-Encoding`). Send it uncompressed.",
    retry: false,
  },
  endpoint_disabled: {
    status: 409,
    type: "invalid_request_error",
    title: "Endpoint disabled",
    description:
      "The webhook endpoint is disabled, so nothing is sent to it. Enable it first with `PATCH /v1/webhook_endpoints/{id}`.",
    retry: false,
  },
  deadline_unreachable: {
    status: 409,
    type: "invalid_request_error",
    title: "Deadline cannot be met",
    description:
      "The job would very likely not start before its `start_by` or `deadline`, so it is not queued. Give it more time, or submit it later.",
    retry: false,
  },
  job_cancelled: {
    status: 409,
    type: "invalid_request_error",
    title: "Job cancelled",
    description: "The job was cancelled before it ended, so it has no complete answer.",
    retry: false,
  },
  idempotency_key_reused: {
    status: 422,
    type: "invalid_request_error",
    title: "Idempotency key reused",
    description:
      "The same `Idempotency-Key` was used with another request. Use a new key for a new request.",
    retry: false,
  },
  rate_limit_exceeded: {
    status: 429,
    type: "rate_limit_error",
    title: "Rate limit exceeded",
    description:
      "The API key has reached a limit, which `violated-policies` names, or the jobs of its tenant, or the requests that arrive at the same time, have as many bytes as allowed, which `message` says. Retry after the time in `Retry-After`, or, for bytes, delete ended jobs.",
    retry: true,
  },
  overloaded: {
    status: 503,
    type: "server_error",
    title: "Server overloaded",
    description:
      "The process that got the request holds as many bytes of requests as it can. Retry after the time in `Retry-After`.",
    retry: true,
  },
  worker_unavailable: {
    status: 503,
    type: "server_error",
    title: "Worker unavailable",
    description:
      "The call needs an answer of a worker that serves the model, and none answers at the moment. Retry after the time in `Retry-After`.",
    retry: true,
  },
  queue_unavailable: {
    status: 503,
    type: "server_error",
    title: "Queue unavailable",
    description:
      "The server cannot reach its queue in Redis at the moment. Retry after the time in `Retry-After`.",
    retry: true,
  },
  storage_unavailable: {
    status: 503,
    type: "server_error",
    title: "File storage unavailable",
    description:
      "The server cannot reach the store of its large files (S3) at the moment, receives as many uploads as it can, or has lost a part of this one. Retry after the time in `Retry-After`.",
    retry: true,
  },
  upgrade_in_progress: {
    status: 503,
    type: "server_error",
    title: "Upgrade in progress",
    description:
      "A newer release of this server has stored the object, and the process that got the request cannot read it. Retry after the time in `Retry-After`: the upgrade will reach all processes.",
    retry: true,
  },
  deadline_exceeded: {
    status: 504,
    type: "server_error",
    title: "Deadline exceeded",
    description:
      "The job is expired: it did not start before its `start_by`, or did not end before its `deadline`. Submit it again with more time.",
    retry: false,
  },
  base_unavailable: {
    status: 503,
    type: "server_error",
    title: "Base model unavailable",
    description:
      "The base model of the job runs on another server, which has not answered for minutes. Submit the job again later.",
    retry: true,
  },
  base_failed: {
    status: 502,
    type: "server_error",
    title: "Base model failed",
    description:
      "The base model of the job runs on another server, which refuses the call, answers what cannot be right, or has become another model. The message says which.",
    retry: false,
  },
  worker_lost: {
    status: 500,
    type: "server_error",
    title: "Worker lost",
    description:
      "Several workers were lost while they ran this job: submitting it again will probably fail as well. Or no worker has had the weights with which it began for 10 minutes: then submit it again. The message says which.",
    retry: false,
  },
  internal: {
    status: 500,
    type: "server_error",
    title: "Internal error",
    description: "An error inside the server. Its logs hold the cause under the `request_id`.",
    retry: false,
  },
} as const satisfies Record<string, ErrorEntry>;

export const ErrorCode = v.pipe(
  v.picklist(Object.keys(ERRORS) as ErrorCode[]),
  v.description(
    Object.entries(ERRORS)
      .map(([code, { description }]) => `\`${code}\`: ${description}`)
      .join("\n\n"),
  ),
);
export type ErrorCode = keyof typeof ERRORS;
