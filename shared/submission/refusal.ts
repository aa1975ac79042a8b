/** The error of a refused response format as plain data: it is kept, or sent from another thread. */
import { AppError } from "../api/errors.ts";

export type Refusal = Pick<AppError, "code" | "message" | "param">;

/** The errors of a format itself: another try gives the same. */
const REFUSALS: ReadonlySet<string> = new Set(["invalid_request", "unsupported_parameter"]);

/** Null for other errors. */
export function refusalOf(error: unknown): Refusal | null {
  if (!(error instanceof AppError) || !REFUSALS.has(error.code)) return null;
  const { code, message, param } = error;
  return { code, message, param };
}

/** An error of its own for each caller. */
export function refusalError({ code, message, param }: Refusal): AppError {
  return new AppError(code, message, param === null ? {} : { param });
}
