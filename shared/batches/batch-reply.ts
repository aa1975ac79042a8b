/** A batch as its owner sees it. */
import type { Batch, BatchEnd } from "../api/batches.ts";
import type { BatchRecord } from "./record.ts";
import { resultFileId, type ResultFile } from "./store.ts";

/** The batch as the API returns it. */
export function toBatch(record: BatchRecord): Batch {
  const { status, ending, createdAtMs, endedAtMs } = record;
  const ended = (state: BatchEnd) => (status === state ? seconds(endedAtMs) : null);
  const file = (results: ResultFile, lines: number) =>
    endedAtMs !== null && lines > 0 ? resultFileId(record.id, results) : null;
  return {
    id: record.id,
    object: "batch",
    endpoint: record.endpoint,
    input_file_id: record.inputFileId,
    completion_window: "24h",
    status,
    errors: record.failure && ending === "failed" ? batchErrors(record.failure) : null,
    output_file_id: file("output", record.completed),
    error_file_id: file("error", record.failed),
    created_at: seconds(createdAtMs)!,
    expires_at: seconds(record.deadlineMs)!,
    in_progress_at: seconds(record.inProgressAtMs),
    finalizing_at: seconds(record.finalizingAtMs),
    cancelling_at: seconds(record.cancellingAtMs),
    completed_at: ended("completed"),
    failed_at: ended("failed"),
    expired_at: ended("expired"),
    cancelled_at: ended("cancelled"),
    request_counts: {
      total: record.total,
      completed: record.completed,
      failed: record.failed,
    },
    usage: {
      input_tokens: record.inputTokens,
      input_tokens_details: { cached_tokens: record.cachedTokens },
      output_tokens: record.outputTokens,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: record.inputTokens + record.outputTokens,
    },
    metadata: record.metadata,
  };
}

function batchErrors({ code, message }: { readonly code: string; readonly message: string }) {
  return { object: "list" as const, data: [{ code, message, line: null, param: null }] };
}

const seconds = (ms: number | null) => (ms === null ? null : Math.floor(ms / 1000));
