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

/** code -> HTTP status, error type as the `openai` client knows it, and whether a retry can help. */
export const ERRORS = {
  invalid_request: { status: 400, type: "invalid_request_error", retry: false },
  unsupported_parameter: { status: 400, type: "invalid_request_error", retry: false },
  context_length_exceeded: { status: 400, type: "invalid_request_error", retry: false },
  invalid_api_key: { status: 401, type: "authentication_error", retry: false },
  permission_denied: { status: 403, type: "permission_error", retry: false },
  not_found: { status: 404, type: "invalid_request_error", retry: false },
  model_not_found: { status: 404, type: "invalid_request_error", retry: false },
  method_not_allowed: { status: 405, type: "invalid_request_error", retry: false },
  payload_too_large: { status: 413, type: "invalid_request_error", retry: false },
  endpoint_disabled: { status: 409, type: "invalid_request_error", retry: false },
  job_cancelled: { status: 409, type: "invalid_request_error", retry: false },
  idempotency_key_reused: { status: 422, type: "invalid_request_error", retry: false },
  rate_limit_exceeded: { status: 429, type: "rate_limit_error", retry: true },
  queue_unavailable: { status: 503, type: "server_error", retry: true },
  deadline_exceeded: { status: 504, type: "server_error", retry: false },
  worker_lost: { status: 500, type: "server_error", retry: false },
  internal: { status: 500, type: "server_error", retry: false },
} as const satisfies Record<string, { status: number; type: ErrorType; retry: boolean }>;

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

interface ErrorOptions {
  readonly param?: string;
  readonly retryAfterMs?: number | null;
  readonly cause?: unknown;
}

export class AppError extends Error {
  override readonly name = "AppError";
  readonly code: ErrorCode;
  /** The request field at fault, as a dotted path, or null. */
  readonly param: string | null;
  /** Milliseconds after which a retry can help, or null where that is not known. */
  readonly retryAfterMs: number | null;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.param = options.param ?? null;
    this.retryAfterMs = options.retryAfterMs ?? null;
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
}

export function isErrorCode(code: string): code is ErrorCode {
  return Object.hasOwn(ERRORS, code);
}
