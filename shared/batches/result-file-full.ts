/** The failure of a batch whose results do not fit into a result file: without a bucket, files lie in Redis. */

/**
 * A result does not fit: a string in Redis has at most 512 MB (`proto-max-bulk-len`), and the result files of a tenant have
 * at most `LIMITS.resultsInRedisBytesMax` together.
 */
export class ResultFileFull extends Error {
  override readonly name = "ResultFileFull";
}

/** Why a batch failed whose results do not fit into their file. */
export const RESULT_FILE_FULL = {
  code: "result_file_full",
  message:
    "The results do not fit into their file or beside the tenant's other result files; the results so far are kept. Delete result files, or split the input into smaller batches",
};

/** For a rejected script that appends to a result file. @throws ResultFileFull if the file is full; else the error itself */
export function throwIfFull(error: unknown): never {
  const isFull = error instanceof Error && error.message.includes("string exceeds maximum");
  throw isFull ? new ResultFileFull(RESULT_FILE_FULL.message, { cause: error }) : error;
}

/** For the reply of a script that appends to a result file. @throws ResultFileFull */
export function requireRoom(reply: unknown): void {
  if (reply === -1) throw new ResultFileFull(RESULT_FILE_FULL.message);
}
