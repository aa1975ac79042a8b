/**
 * The errors of the API: the bodies of error replies, and the exception that is turned into such a body (AppError). An
 * exception's `cause` is for logs only: no reply contains it. The codes are in error-codes.ts.
 */
import * as v from "valibot";
import { ERROR_TYPES, ErrorCode, ERRORS } from "./error-codes.ts";
import { field, type Reply } from "./schema.ts";

const errorBody = {
  error: field(
    v.strictObject({
      code: field(ErrorCode, "The error's code.", { examples: ["invalid_request"] }),
      type: field(
        v.picklist(ERROR_TYPES),
        "The error's type in OpenAI's API, which depends on the HTTP status.",
      ),
      message: field(v.string(), "The error in one sentence, for people.", {
        examples: ["max_tokens must be at most 32768, received 100000"],
      }),
      param: field(
        v.nullable(v.string()),
        "The request's field that is wrong, as a path with dots. Null if no single field is wrong.",
        { examples: ["max_tokens"] },
      ),
      request_id: field(
        v.exactOptional(v.string()),
        "The id of the request, as in the header `x-request-id`. Absent in files of batch results.",
      ),
    }),
    "The error, in the members that the `openai` clients parse.",
  ),
};

/** The error in a stream or a batch result. */
export const ErrorBody = v.strictObject(errorBody);
export type ErrorBody = Reply<typeof ErrorBody>;

/** The body of an error reply (`application/problem+json`): OpenAI's `error`, and the members of RFC 9457. */
export const ProblemBody = v.strictObject({
  type: field(
    v.string(),
    "A URI for the kind of error: `urn:problem-type:trimtab:` and the code. For a reached rate limit it is the registered `quota-exceeded`.",
    { examples: ["urn:problem-type:trimtab:invalid_request"] },
  ),
  title: field(v.string(), "The kind of error in a few words.", { examples: ["Invalid request"] }),
  status: field(v.pipe(v.number(), v.integer()), "The HTTP status of the reply.", {
    examples: [400],
  }),
  detail: field(v.string(), "The error in one sentence, as `error.message`."),
  instance: field(
    v.exactOptional(v.string()),
    "A URI for this error: `urn:trimtab:request:` and the request's id.",
  ),
  "violated-policies": field(
    v.exactOptional(v.array(v.string())),
    "The limits that are reached, by their names in the header `RateLimit-Policy`. Present only with `rate_limit_exceeded`.",
    { examples: [["tokens"]] },
  ),
  ...errorBody,
});
export type ProblemBody = Reply<typeof ProblemBody>;

/** The problem type of draft-ietf-httpapi-ratelimit-headers. */
const QUOTA_EXCEEDED = "https://iana.org/assignments/http-problem-types#quota-exceeded";

interface ErrorOptions {
  readonly param?: string;
  readonly retryAfterMs?: number | null;
  readonly violatedLimit?: string;
  readonly cause?: unknown;
}

/** An error that the caller gets, with a code of the table. `message` is shown to the caller. */
export class AppError extends Error {
  override readonly name = "AppError";
  readonly code: ErrorCode;
  /** The request's field that is wrong, as a path with dots; null if there is no single one. */
  readonly param: string | null;
  /** Milliseconds after which a retry can succeed; null if unknown. */
  readonly retryAfterMs: number | null;
  /** The limit that is reached, by its name in `RateLimit-Policy`; null for other errors. */
  readonly violatedLimit: string | null;

  constructor(code: ErrorCode, message: string, options: ErrorOptions = {}) {
    super(message, { cause: options.cause });
    this.code = code;
    this.param = options.param ?? null;
    this.retryAfterMs = options.retryAfterMs ?? null;
    this.violatedLimit = options.violatedLimit ?? null;
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
    const { code, message: detail, violatedLimit } = this;
    const { title, status } = ERRORS[code];
    return {
      type: violatedLimit === null ? `urn:problem-type:trimtab:${code}` : QUOTA_EXCEEDED,
      title,
      status,
      detail,
      ...(requestId && { instance: `urn:trimtab:request:${requestId}` }),
      ...(violatedLimit !== null && { "violated-policies": [violatedLimit] }),
      ...this.toBody(requestId),
    };
  }
}
