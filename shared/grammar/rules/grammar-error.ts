/** Keys from the top of a response format to a part of it. */
export type Path = readonly string[];

/** A response format that cannot be compiled. The message continues a sentence that begins with the path. */
export class GrammarError extends Error {
  override readonly name: string = "GrammarError";
  /** Keys from the top of the format to the error. */
  readonly path: Path;
  /** Whether the format is valid, but not supported here. */
  readonly unsupported: boolean;

  constructor(path: Path, message: string, { unsupported = false } = {}) {
    super(message);
    this.path = path;
    this.unsupported = unsupported;
  }
}

/** A response format whose compilation takes more steps than its budget has. */
export class BudgetError extends GrammarError {
  override readonly name = "BudgetError";
}
