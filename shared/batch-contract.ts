/** The public wire contract of batches: the request, a line of the input, a line of the output. Times are Unix seconds. */
import * as v from "valibot";
import { generation, nonEmpty } from "./contract.ts";
import { ExpiresAfter } from "./file-contract.ts";
import { LIMITS } from "./limits.ts";

export const BATCH_ENDPOINTS = [
  "/v1/chat/completions",
  "/v1/completions",
  "/v1/responses",
] as const;
export type BatchEndpoint = (typeof BATCH_ENDPOINTS)[number];

/** `POST /v1/batches` */
export const BatchRequest = v.strictObject({
  input_file_id: nonEmpty(LIMITS.modelCharsMax),
  endpoint: v.picklist(BATCH_ENDPOINTS),
  completion_window: v.literal("24h"),
  metadata: generation.metadata,
  output_expires_after: v.nullish(ExpiresAfter),
});

/** A line of the input file. */
export const BatchLine = v.strictObject({
  custom_id: nonEmpty(LIMITS.customIdCharsMax),
  method: v.literal("POST"),
  url: v.picklist(BATCH_ENDPOINTS),
  body: v.record(v.string(), v.unknown()),
});
export type BatchLine = v.InferOutput<typeof BatchLine>;

/** A line of the output file (an answer) or of the error file. */
export interface BatchResult {
  readonly id: string;
  /** Null where the line does not say. */
  readonly custom_id: string | null;
  readonly response: {
    readonly status_code: number;
    /** The id of the line's (first) job, where it became one. */
    readonly request_id: string;
    readonly body: object;
  } | null;
  /** Why the line was never run to its end: the batch was cancelled or expired. */
  readonly error: { readonly code: string; readonly message: string } | null;
}

export const BATCH_STATES = [
  "validating",
  "in_progress",
  "finalizing",
  "cancelling",
  "completed",
  "failed",
  "expired",
  "cancelled",
] as const;
export type BatchState = (typeof BATCH_STATES)[number];
/** The last four: nothing of the batch changes after them. */
export type BatchEnd = "completed" | "failed" | "expired" | "cancelled";

export interface Batch {
  readonly id: string;
  readonly object: "batch";
  readonly endpoint: BatchEndpoint;
  readonly input_file_id: string;
  readonly completion_window: "24h";
  readonly status: BatchState;
  readonly errors: {
    readonly object: "list";
    readonly data: readonly {
      readonly code: string;
      readonly message: string;
      readonly line: number | null;
      readonly param: string | null;
    }[];
  } | null;
  /** Null until the batch ended, and where no line has a result of this kind. */
  readonly output_file_id: string | null;
  readonly error_file_id: string | null;
  readonly created_at: number;
  readonly expires_at: number;
  readonly in_progress_at: number | null;
  readonly finalizing_at: number | null;
  readonly cancelling_at: number | null;
  readonly completed_at: number | null;
  readonly failed_at: number | null;
  readonly expired_at: number | null;
  readonly cancelled_at: number | null;
  /** Lines, and those of them that have a result: an answer, or why there is none. */
  readonly request_counts: {
    readonly total: number;
    readonly completed: number;
    readonly failed: number;
  };
  /** Of all answers so far. */
  readonly usage: {
    readonly input_tokens: number;
    readonly input_tokens_details: { readonly cached_tokens: number };
    readonly output_tokens: number;
    readonly output_tokens_details: { readonly reasoning_tokens: number };
    readonly total_tokens: number;
  };
  readonly metadata: Readonly<Record<string, string>>;
}
