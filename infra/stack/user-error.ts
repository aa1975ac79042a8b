/** How commands show errors to their user. */

/** An error that the user can correct; it is shown as one line. Every other error is a bug, shown with its stack. */
export class UserError extends Error {
  override readonly name = "UserError";
}

/** The text to print for an error that ends a command. */
export function errorText(error: unknown): string {
  if (error instanceof UserError) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
