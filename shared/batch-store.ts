/**
 * Batches in Redis, for both sides. A batch is a place in its input file, the lines from before it that have not ended,
 * and the results of the others, which grow into its output and error files. How lines become jobs is the worker's.
 */
import * as v from "valibot";
import type { Repetition } from "./admission.ts";
import * as scripts from "./batch-scripts.ts";
import {
  BATCH_ENDPOINTS,
  BATCH_STATES,
  type Batch,
  type BatchEnd,
  type BatchState,
} from "./batch-contract.ts";
import type { Usage } from "./contract.ts";
import { count, countOrNull, fromJson } from "./record-fields.ts";
import { LIMITS } from "./limits.ts";
import { script, type RedisClient, type Script } from "./redis-client.ts";
import {
  batchesKey,
  batchKey,
  batchLinesKey,
  batchNamesKey,
  contentKey,
  openBatchesKey,
} from "./redis-keys.ts";

const zero = v.optional(count, "0");
const metadata = v.pipe(fromJson, v.record(v.string(), v.string()));

/** The batch hash. */
const BatchRecord = v.object({
  id: v.string(),
  tenant: v.string(),
  keyId: v.string(),
  endpoint: v.picklist(BATCH_ENDPOINTS),
  inputFileId: v.string(),
  metadata,
  createdAtMs: count,
  deadlineMs: count,
  /** Seconds for which output and error file are kept. */
  fileSeconds: count,
  status: v.picklist(BATCH_STATES),
  /** What it ends as, once that is decided; empty before. */
  ending: v.optional(v.string(), ""),
  /** Why it failed. */
  failure: v.optional(v.pipe(fromJson, v.object({ code: v.string(), message: v.string() }))),
  /** Lines; of them those that have an answer, and those that have none and never will. */
  total: zero,
  completed: zero,
  failed: zero,
  inputTokens: zero,
  cachedTokens: zero,
  outputTokens: zero,
  /** Where in the input file it reads on: bytes, and lines before. */
  offset: zero,
  line: zero,
  inProgressAtMs: countOrNull,
  finalizingAtMs: countOrNull,
  cancellingAtMs: countOrNull,
  endedAtMs: countOrNull,
});
export type BatchRecord = v.InferOutput<typeof BatchRecord>;

/** What is kept of a line while its jobs run. */
const OpenLine = v.pipe(
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
  | "id"
  | "tenant"
  | "keyId"
  | "endpoint"
  | "inputFileId"
  | "metadata"
  | "createdAtMs"
  | "fileSeconds"
>;

/** What became of a request for a batch: one before may have made it, or been another under the same name. */
export interface CreatedBatch {
  readonly status: "created" | "existing" | "conflict" | "full";
  readonly id: string;
}

/** The two files that a batch makes. */
export const RESULTS = ["output", "error"] as const;
export type Results = (typeof RESULTS)[number];

export const resultFileId = (batchId: string, results: Results) =>
  `${batchId.replace(/^batch_/, "file_")}-${results}`;

export const isEnded = ({ endedAtMs }: BatchRecord) => endedAtMs !== null;

export class BatchStore {
  readonly #redis: RedisClient;
  readonly #scripts: Readonly<
    Record<"create" | "move" | "advance" | "close" | "flush" | "end", Script>
  >;

  constructor(redis: RedisClient) {
    this.#redis = redis;
    this.#scripts = {
      create: script(redis, "CREATE_BATCH", 3, scripts.CREATE_BATCH),
      move: script(redis, "MOVE_BATCH", 1, scripts.MOVE_BATCH),
      advance: script(redis, "ADVANCE_BATCH", 4, scripts.ADVANCE_BATCH),
      close: script(redis, "CLOSE_LINE", 4, scripts.CLOSE_LINE),
      flush: script(redis, "FLUSH_BATCH", 2, scripts.FLUSH_BATCH),
      end: script(redis, "END_BATCH", 4, scripts.END_BATCH),
    };
  }

  /** Unless it is created, nothing was written. The caller queues it afterwards. */
  async create(batch: NewBatch, repetition: Repetition | null = null): Promise<CreatedBatch> {
    const { id, tenant, createdAtMs } = batch;
    const fields = {
      ...batch,
      metadata: JSON.stringify(batch.metadata),
      deadlineMs: createdAtMs + LIMITS.batchSeconds * 1000,
      status: "validating" satisfies BatchState,
      offset: 0,
    };
    const [status, existing] = (await this.#scripts.create(
      batchKey(id),
      batchesKey(tenant),
      openBatchesKey(tenant),
      id,
      createdAtMs,
      LIMITS.openBatchesMax,
      LIMITS.batchesListedMax,
      JSON.stringify(repetition ?? false),
      ...Object.entries(fields).flat(),
    )) as [CreatedBatch["status"], string?];
    return { status, id: existing ?? id };
  }

  async one(id: string): Promise<BatchRecord | null> {
    const fields = await this.#redis.hgetall(batchKey(id));
    return Object.keys(fields).length === 0 ? null : v.parse(BatchRecord, fields);
  }

  /** Newest first. */
  async all(tenant: string): Promise<BatchRecord[]> {
    const everyTime = [0, Number.MAX_SAFE_INTEGER] as const;
    const page = ["LIMIT", 0, LIMITS.batchesListedMax] as const;
    const ids = await this.#redis.zrangebyscore(batchesKey(tenant), ...everyTime, ...page);
    const records = await Promise.all(ids.toReversed().map((id) => this.one(id)));
    return records.filter((record) => record !== null);
  }

  /** All of the input is well: its lines can become jobs. */
  async begin(id: string, total: number): Promise<void> {
    const fields = { status: "in_progress", total, inProgressAtMs: Date.now() };
    await this.#move(id, ["validating"], fields);
  }

  /** Idempotent: a batch that is ending goes on ending as what it was. */
  async cancel(id: string): Promise<void> {
    const fields = { status: "cancelling", ending: "cancelled", cancellingAtMs: Date.now() };
    await this.#move(id, ["validating", "in_progress"], fields);
  }

  /** No more lines become jobs. */
  async finalize(id: string, ending: BatchEnd, failure?: object): Promise<void> {
    const why = failure && { failure: JSON.stringify(failure) };
    const fields = { status: "finalizing", ending, finalizingAtMs: Date.now(), ...why };
    await this.#move(id, ["validating", "in_progress"], fields);
  }

  async #move(id: string, from: readonly BatchState[], to: Record<string, string | number>) {
    await this.#scripts.move(batchKey(id), JSON.stringify(from), ...Object.entries(to).flat());
  }

  /** Whether the name is this line's: that of an earlier one is not. */
  async claimName(id: string, customId: string, line: number): Promise<boolean> {
    const key = batchNamesKey(id);
    await this.#redis.hsetnx(key, customId, String(line));
    return (await this.#redis.hget(key, customId)) === String(line);
  }

  /** Goes on to the next line. @param kept of a line that became jobs, or the result of one that did not */
  async advance(
    { id, offset }: Pick<BatchRecord, "id" | "offset">,
    to: { readonly offset: number; readonly line: number },
    kept: { readonly open: OpenLine } | { readonly failed: object } | null,
  ): Promise<void> {
    const [kind, value] =
      kept === null
        ? ["blank", ""]
        : "open" in kept
          ? ["open", JSON.stringify(kept.open)]
          : ["failed", lineOf(kept.failed)];
    await this.#scripts.advance(...this.#keys(id), offset, to.offset, to.line, kind, value);
  }

  /** Lines whose jobs have not ended, by number. */
  async openLines(id: string): Promise<Map<number, OpenLine>> {
    const lines = Object.entries(await this.#redis.hgetall(batchLinesKey(id)));
    return new Map(lines.map(([number, line]) => [Number(number), v.parse(OpenLine, line)]));
  }

  async close(
    id: string,
    line: number,
    state: "completed" | "failed",
    result: object,
    usage: Usage,
  ): Promise<void> {
    await this.#scripts.close(
      ...this.#keys(id),
      line,
      state,
      lineOf(result),
      usage.prompt_tokens,
      usage.prompt_tokens_details.cached_tokens,
      usage.completion_tokens,
    );
  }

  /** Ends it, once its files are there. */
  async end({ id, tenant }: BatchRecord, state: BatchEnd): Promise<void> {
    await this.#scripts.end(
      batchKey(id),
      batchLinesKey(id),
      batchNamesKey(id),
      openBatchesKey(tenant),
      id,
      state,
      Date.now(),
      LIMITS.fileSecondsMax * 1000,
    );
  }

  /** A field of the batch's hash that belongs to one of its files. */
  fileField(id: string, field: string): Promise<string | null> {
    return this.#redis.hget(batchKey(id), field);
  }

  /** Sets such a field where it is not set. @returns what it is then */
  async claimFileField(id: string, field: string, value: string): Promise<string> {
    await this.#redis.hsetnx(batchKey(id), field, value);
    return (await this.fileField(id, field)) ?? value;
  }

  /** Notes parts that went to the bucket: the last one's bytes are no longer in Redis. */
  async flushed(
    id: string,
    results: Results,
    parts: { readonly before: string; readonly now: string },
    bytes: number,
  ): Promise<void> {
    const content = contentKey(resultFileId(id, results));
    const field = `${results}Parts`;
    await this.#scripts.flush(batchKey(id), content, field, parts.before, parts.now, bytes);
  }

  #keys(id: string): [string, string, string, string] {
    const [output, error] = RESULTS.map((results) => contentKey(resultFileId(id, results)));
    return [batchKey(id), batchLinesKey(id), output!, error!];
  }
}

const lineOf = (result: object) => `${JSON.stringify(result)}\n`;

export function toBatch(record: BatchRecord): Batch {
  const { status, ending, createdAtMs, endedAtMs } = record;
  const ended = (state: BatchEnd) => (status === state ? seconds(endedAtMs) : null);
  const file = (results: Results, lines: number) =>
    endedAtMs !== null && lines > 0 ? resultFileId(record.id, results) : null;
  return {
    id: record.id,
    object: "batch",
    endpoint: record.endpoint,
    input_file_id: record.inputFileId,
    completion_window: "24h",
    status,
    errors: record.failure && ending === "failed" ? errorsOf(record.failure) : null,
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

function errorsOf({ code, message }: { readonly code: string; readonly message: string }) {
  return { object: "list" as const, data: [{ code, message, line: null, param: null }] };
}

const seconds = (ms: number | null) => (ms === null ? null : Math.floor(ms / 1000));
