/** An error as the logs of edges and workers show it. */
interface LoggedError {
  readonly type: string;
  readonly code?: unknown;
  readonly message: string;
  readonly stack?: string | undefined;
  readonly cause?: LoggedError;
}

/**
 * Leaves out the other fields of an error: one from Redis has the command as a field, and the command may contain a job's text.
 */
export function loggedError(error: unknown): LoggedError {
  if (!(error instanceof Error)) return { type: typeof error, message: String(error) };
  const { name: type, message, stack, cause } = error;
  return {
    type,
    ...("code" in error && { code: error.code }),
    message,
    stack,
    ...(cause !== undefined && { cause: loggedError(cause) }),
  };
}
