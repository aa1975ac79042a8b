/** A batch as it is stored in Redis. */
import * as v from "valibot";
import { BATCH_ENDPOINTS, BATCH_STATES } from "../api/batches.ts";
import { count, countOrNull, fromJson } from "../redis/fields.ts";
import { versionField } from "../redis/version.ts";

/** Version of batch records (redis/version.ts). */
export const BATCH_VERSION = 1;

const countOrZero = v.optional(count, "0");
const metadata = v.pipe(fromJson, v.record(v.string(), v.string()));

/** The batch hash. */
export const BatchRecord = v.strictObject({
  version: versionField(BATCH_VERSION),
  id: v.string(),
  tenant: v.string(),
  keyId: v.string(),
  endpoint: v.picklist(BATCH_ENDPOINTS),
  inputFileId: v.string(),
  metadata,
  createdAtMs: count,
  deadlineMs: count,
  /** Seconds for which the output and error files are kept. */
  fileSeconds: count,
  status: v.picklist(BATCH_STATES),
  /** The status that the batch will end with; empty until that is decided. */
  ending: v.optional(v.string(), ""),
  /** Why the batch failed; absent if it did not. */
  failure: v.optional(v.pipe(fromJson, v.object({ code: v.string(), message: v.string() }))),
  /** Lines in the input file; of these, the lines with a response and the lines that failed. */
  total: countOrZero,
  completed: countOrZero,
  failed: countOrZero,
  inputTokens: countOrZero,
  cachedTokens: countOrZero,
  outputTokens: countOrZero,
  /** Position in the input file: bytes and lines that have been read. */
  offset: countOrZero,
  line: countOrZero,
  inProgressAtMs: countOrNull,
  finalizingAtMs: countOrNull,
  cancellingAtMs: countOrNull,
  endedAtMs: countOrNull,
  /** Of each result file: the multipart upload and the parts that are in the bucket (worker/batches/result-files.ts). */
  outputUpload: v.optional(v.string()),
  outputParts: v.optional(v.string()),
  errorUpload: v.optional(v.string()),
  errorParts: v.optional(v.string()),
});
export type BatchRecord = v.InferOutput<typeof BatchRecord>;

/** A line whose jobs have not ended. */
export const OpenLine = v.pipe(
  fromJson,
  v.object({
    customId: v.string(),
    /** Choices for each prompt. */
    n: v.number(),
  }),
);
export type OpenLine = v.InferOutput<typeof OpenLine>;

export type NewBatch = Pick<
  BatchRecord,
  "id" | "tenant" | "keyId" | "endpoint" | "inputFileId" | "metadata" | "fileSeconds"
>;
