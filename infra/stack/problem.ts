/**
 * Something that the person at the terminal can put right, said in one line.
 * Everything else that is thrown is a bug and is shown with its stack.
 */
export class Problem extends Error {
  override readonly name = "Problem";
}

/** What to print for an error that ends a command. */
export function explain(error: unknown): string {
  if (error instanceof Problem) return error.message;
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
