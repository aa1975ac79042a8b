/**
 * The errors that a caller can meet, in one table, and the body that carries them.
 * `detail` and `cause` are for logs: they never leave the process.
 */
type ErrorType =
  | "invalid_request_error"
  | "authentication_error"
  | "permission_error"
  | "rate_limit_error"
  | "server_error";

/** code -> HTTP status, error type as the `openai` client knows it, its name for people, and whether a retry can help. */
export const ERRORS = {
  invalid_request: {
    status: 400,
    type: "invalid_request_error",
    title: "Invalid request",
    retry: false,
  },
  unsupported_parameter: {
    status: 400,
    type: "invalid_request_error",
    title: "Unsupported parameter",
    retry: false,
  },
  context_length_exceeded: {
    status: 400,
    type: "invalid_request_error",
    title: "Context too long",
    retry: false,
  },
  invalid_api_key: {
    status: 401,
    type: "authentication_error",
    title: "Invalid API key",
    retry: false,
  },
  permission_denied: {
    status: 403,
    type: "permission_error",
    title: "Permission denied",
    retry: false,
  },
  not_found: { status: 404, type: "invalid_request_error", title: "Not found", retry: false },
  model_not_found: {
    status: 404,
    type: "invalid_request_error",
    title: "Model not found",
    retry: false,
  },
  method_not_allowed: {
    status: 405,
    type: "invalid_request_error",
    title: "Method not allowed",
    retry: false,
  },
  payload_too_large: {
    status: 413,
    type: "invalid_request_error",
    title: "Body too large",
    retry: false,
  },
  endpoint_disabled: {
    status: 409,
    type: "invalid_request_error",
    title: "Endpoint disabled",
    retry: false,
  },
  deadline_unreachable: {
    status: 409,
    type: "invalid_request_error",
    title: "Deadline cannot be met",
    retry: false,
  },
  job_cancelled: {
    status: 409,
    type: "invalid_request_error",
    title: "Job cancelled",
    retry: false,
  },
  idempotency_key_reused: {
    status: 422,
    type: "invalid_request_error",
    title: "Idempotency key reused",
    retry: false,
  },
  rate_limit_exceeded: {
    status: 429,
    type: "rate_limit_error",
    title: "Rate limit exceeded",
    retry: true,
  },
  queue_unavailable: { status: 503, type: "server_error", title: "Queue unavailable", retry: true },
  deadline_exceeded: {
    status: 504,
    type: "server_error",
    title: "Deadline exceeded",
    retry: false,
  },
  worker_lost: { status: 500, type: "server_error", title: "Worker lost", retry: false },
  internal: { status: 500, type: "server_error", title: "Internal error", retry: false },
} as const satisfies Record<
  string,
  { status: number; type: ErrorType; title: string; retry: boolean }
>;

export type ErrorCode = keyof typeof ERRORS;

/** Body of every error reply: the members that the `openai` clients parse, and the request's id. */
export interface ErrorBody {
  readonly error: {
    readonly code: ErrorCode;
    readonly type: ErrorType;
    readonly message: string;
    readonly param: string | null;
    readonly request_id?: string;
  };
}

/** Body of an error reply: beside it the members of RFC 9457. */
export interface ProblemBody extends ErrorBody {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly detail: string;
  /** Names the request. */
  readonly instance?: string;
  /** Limits that are in the way, by their names in `RateLimit-Policy`. */
  readonly "violated-policies"?: readonly string[];
}

/** As draft-ietf-httpapi-ratelimit-headers registers it. */
const QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded";

interface ErrorOptions {
  readonly param?: string;
  readonly retryAfterMs?: number | null;
  readonly violated?: string;
  readonly cause?: unknown;
}

export class AppError extends Error {
  override readonly name = "AppError";
  readonly code: ErrorCode;
  /** The request field at fault, as a dotted path, or null. */
  readonly param: string | null;
  /** Milliseconds after which a retry can help, or null where that is not known. */
  readonly retryAfterMs: number | null;
  /** The limit that is in the way, or null. */
  readonly violated: string | null;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.param = options.param ?? null;
    this.retryAfterMs = options.retryAfterMs ?? null;
    this.violated = options.violated ?? null;
  }

  get status() {
    return ERRORS[this.code].status;
  }

  toBody(requestId?: string): ErrorBody {
    const { type } = ERRORS[this.code];
    const { code, message, param } = this;
    return {
      error: { code, type, message, param, ...(requestId && { request_id: requestId }) },
    };
  }

  toProblem(requestId?: string): ProblemBody {
    const { code, message: detail, violated } = this;
    const { title, status } = ERRORS[code];
    return {
      type: violated === null ? `urn:problem-type:trimtab:${code}` : QUOTA_EXCEEDED,
      title,
      status,
      detail,
      ...(requestId && { instance: `urn:trimtab:request:${requestId}` }),
      ...(violated !== null && { "violated-policies": [violated] }),
      ...this.toBody(requestId),
    };
  }
}

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}
