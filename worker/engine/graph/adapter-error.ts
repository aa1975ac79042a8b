/** An error of one adapter. A graph may have many, and the ensemble that loads it first may have none. */
export class AdapterError extends Error {
  readonly folder: string;

  /** @param cause its message gets the adapter's folder, unless it begins with a file in it */
  constructor(folder: string, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    super(reason.startsWith(folder) ? reason : `${folder}: ${reason}`, { cause });
    this.folder = folder;
  }
}

/** @throws AdapterError with the folder instead of another error */
export function ofAdapter<T>(folder: string, use: () => T): T {
  try {
    return use();
  } catch (error) {
    throw new AdapterError(folder, error);
  }
}

/** The folder of the adapter that an error is about; null for none. */
export function adapterFolderOf(error: unknown): string | null {
  if (error instanceof AdapterError) return error.folder;
  return error instanceof Error && error.cause !== undefined ? adapterFolderOf(error.cause) : null;
}
