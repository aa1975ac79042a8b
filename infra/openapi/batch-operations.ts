/** The calls about files and batches. */
import { deleted, HAS_MORE, list, type Operation, type Reply } from "./operation.ts";

const TAG = { tag: "Batches" } as const;
const FILE = { ...TAG, parameters: ["FileId"] } as const;
const BATCH = { ...TAG, parameters: ["BatchId"] } as const;
const PAGE = ["Limit", "Order", "AfterId"] as const;
const ENDS = {
  first_id: { type: ["string", "null"] },
  last_id: { type: ["string", "null"] },
  ...HAS_MORE,
};
const file: Reply = { description: "The file.", schema: "FileObject" };
const batch: Reply = { description: "The batch.", schema: "Batch" };

export const BATCH_OPERATIONS: Readonly<Record<string, Operation>> = {
  "POST /v1/files": {
    ...TAG,
    summary: "Upload a file of requests, one on each line",
    form: "FileUpload",
    replies: { 200: file },
  },
  "GET /v1/files": {
    ...TAG,
    summary: "List files, the newest first",
    parameters: ["Purpose", ...PAGE],
    replies: { 200: { description: "A page.", schema: list("FileObject", ENDS) } },
  },
  "GET /v1/files/{id}": { ...FILE, summary: "Read about a file", replies: { 200: file } },
  "GET /v1/files/{id}/content": {
    ...FILE,
    summary: "Read a file",
    replies: {
      200: { description: "Its bytes.", schema: { type: "string" }, mediaType: "text/plain" },
    },
  },
  "DELETE /v1/files/{id}": { ...FILE, summary: "Delete a file", replies: { 200: deleted("file") } },
  "POST /v1/batches": {
    ...TAG,
    summary: "Answer a file's requests within a day",
    body: {
      BatchRequest: {
        input_file_id: "file_…",
        endpoint: "/v1/chat/completions",
        completion_window: "24h",
      },
    },
    parameters: ["IdempotencyKey", "RetryCount"],
    replies: { 200: { ...batch, headers: ["Idempotent-Replayed"] } },
    errors: [404, 422],
  },
  "GET /v1/batches": {
    ...TAG,
    summary: "List batches, the newest first",
    parameters: PAGE,
    replies: { 200: { description: "A page.", schema: list("Batch", ENDS) } },
  },
  "GET /v1/batches/{id}": { ...BATCH, summary: "Read a batch", replies: { 200: batch } },
  "POST /v1/batches/{id}/cancel": {
    ...BATCH,
    summary: "Cancel a batch",
    description: "The answers so far are kept.",
    replies: { 200: batch },
  },
};
