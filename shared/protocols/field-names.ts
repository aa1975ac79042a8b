/** Errors name a field as the client has sent it, which may be another name than that of the same field of a job. */
import { AppError } from "../api/errors.ts";

/** Pairs of [a job's field, the same field of a request]. The first entry that fits an error is used. */
export type FieldNames = readonly (readonly [field: string, name: string])[];

/** The error with the field's name as the request spells it. Other values are returned unchanged. */
export function withFieldNames(error: unknown, fieldNames: FieldNames): unknown {
  if (!(error instanceof AppError) || error.param === null) return error;
  const { param } = error;
  const names = fieldNames.find(([field]) => param === field || param.startsWith(`${field}.`));
  return names === undefined ? error : renamed(error, (text) => text.replace(...names));
}

/** The error with other names in its message and its `param`. */
export function renamed(error: AppError, rename: (text: string) => string): AppError {
  const { code, message, param, retryAfterMs, violatedLimit, cause } = error;
  return new AppError(code, rename(message), {
    ...(param !== null && { param: rename(param) }),
    retryAfterMs,
    ...(violatedLimit !== null && { violatedLimit }),
    cause,
  });
}
