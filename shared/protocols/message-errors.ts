/** Errors as Anthropic's clients read them: of `/v1/messages` and the routes below it. */
import type { ErrorCode } from "../api/error-codes.ts";
import type { AppError } from "../api/errors.ts";
import type { MessageError } from "../api/messages.ts";

/** By HTTP status. Others are `invalid_request_error` below 500, and `api_error` from there on. */
const TYPES: Readonly<Record<number, string>> = {
  401: "authentication_error",
  403: "permission_error",
  404: "not_found_error",
  413: "request_too_large",
  429: "rate_limit_error",
  503: "overloaded_error",
  504: "timeout_error",
};

/** Whether replies of this path have Anthropic's errors. */
export const hasMessageErrors = (path: string) => /^\/v1\/messages(\/|$)/.test(path);

export function messageError(
  {
    status,
    code,
    message,
    param,
  }: Pick<AppError, "status" | "message" | "param"> & { code: ErrorCode },
  requestId: string,
): MessageError {
  const type = TYPES[status] ?? (status < 500 ? "invalid_request_error" : "api_error");
  return { type: "error", error: { type, message, code, param }, request_id: requestId };
}
