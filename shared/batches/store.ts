/**
 * Batches in Redis, for edge and workers. A batch is a position in its input file, the lines before it whose jobs have not
 * ended (open lines), and an output and an error file to which the results of the other lines are appended.
 * It must not know how a line becomes jobs: worker/batches does that.
 */
import * as v from "valibot";
import { claimJson, type IdempotencyClaim } from "../redis/idempotency.ts";
import { requireRoom, throwIfFull } from "./result-file-full.ts";
import * as scripts from "./scripts.ts";
import { BATCH_VERSION, BatchRecord, OpenLine, type NewBatch } from "./record.ts";
import type { BatchEnd, BatchState } from "../api/batches.ts";
import type { Usage } from "../api/job-parts.ts";
import { LIMITS } from "../api/limits.ts";
import type { RedisClient } from "../redis/client.ts";
import { parseRecord } from "../redis/version.ts";
import {
  batchesKey,
  batchKey,
  batchLinesKey,
  batchCustomIdsKey,
  contentKey,
  fileRoomKey,
  OPEN_BATCHES_KEY,
  openBatchesKey,
} from "../redis/keys.ts";

/**
 * - `created`: the batch is new. In all other cases nothing was written.
 * - `existing`: the same request created it before.
 * - `conflict`: another request used the same idempotency key.
 * - `full`: the tenant has as many open batches as allowed.
 */
export interface CreatedBatch {
  readonly status: "created" | "existing" | "conflict" | "full";
  readonly id: string;
}

/** The two files that a batch writes: responses, and lines that failed. */
export const RESULT_FILES = ["output", "error"] as const;
export type ResultFile = (typeof RESULT_FILES)[number];

/** The file id of a result file. */
export const resultFileId = (batchId: string, file: ResultFile) =>
  `${batchId.replace(/^batch_/, "file_")}-${file}`;

export const isEnded = ({ endedAtMs }: BatchRecord) => endedAtMs !== null;

export class BatchStore {
  readonly #redis: RedisClient;
  readonly #resultBytesMax: number;

  /**
   * @param resultBytesMax of all result files of a tenant in Redis. With a bucket they need no such limit: of each, Redis holds
   * one part and one line at most
   */
  constructor(redis: RedisClient, resultBytesMax: number = LIMITS.resultsInRedisBytesMax) {
    this.#redis = redis;
    this.#resultBytesMax = resultBytesMax;
  }

  /** Creates a batch. The caller then adds it to the batch queue. */
  async create(
    batch: NewBatch,
    idempotency: IdempotencyClaim | null = null,
  ): Promise<CreatedBatch> {
    const { id, tenant } = batch;
    const fields = {
      ...batch,
      version: BATCH_VERSION,
      metadata: JSON.stringify(batch.metadata),
      status: "validating" satisfies BatchState,
      offset: 0,
    };
    const [status, existing] = (await scripts.createBatch(
      this.#redis,
      [
        batchKey(id),
        batchesKey(tenant),
        openBatchesKey(tenant),
        OPEN_BATCHES_KEY,
        ...(idempotency ? [idempotency.key] : []),
      ],
      [
        id,
        LIMITS.batchSeconds * 1000,
        LIMITS.openBatchesMax,
        LIMITS.batchesListedMax,
        claimJson(idempotency),
        ...Object.entries(fields).flat(),
      ],
    )) as [CreatedBatch["status"], string?];
    return { status, id: existing ?? id };
  }

  /** The batch, or null. @throws NewerRecord */
  async get(id: string): Promise<BatchRecord | null> {
    const fields = await this.#redis.hgetall(batchKey(id));
    return Object.keys(fields).length === 0 ? null : parseRecord(BatchRecord, fields);
  }

  /** The tenant's batches, newest first. */
  async list(tenant: string): Promise<BatchRecord[]> {
    const anyTime = [0, Number.MAX_SAFE_INTEGER] as const;
    const page = ["LIMIT", 0, LIMITS.batchesListedMax] as const;
    const ids = await this.#redis.zrangebyscore(batchesKey(tenant), ...anyTime, ...page);
    const records = await Promise.all(ids.toReversed().map((id) => this.get(id)));
    return records.filter((record) => record !== null);
  }

  /** The input file is valid: its lines can become jobs. @param total count of lines */
  async begin(id: string, total: number): Promise<void> {
    const fields = { status: "in_progress", total };
    await this.#changeStatus(id, ["validating"], "inProgressAtMs", fields);
  }

  /** Idempotent. A batch that is already ending keeps the status that it will end with. */
  async cancel(id: string): Promise<void> {
    const fields = { status: "cancelling", ending: "cancelled" };
    await this.#changeStatus(id, ["validating", "in_progress"], "cancellingAtMs", fields);
  }

  /** The batch fails, even if it is already ending. */
  async fail(id: string, failure: { code: string; message: string }): Promise<void> {
    const fields = { status: "finalizing", ending: "failed", failure: JSON.stringify(failure) };
    const from = ["validating", "in_progress", "cancelling", "finalizing"] as const;
    await this.#changeStatus(id, from, "finalizingAtMs", fields);
  }

  /** No more lines become jobs; the batch ends when its open lines have ended. */
  async finalize(id: string, ending: BatchEnd, failure?: object): Promise<void> {
    const reason = failure && { failure: JSON.stringify(failure) };
    const fields = { status: "finalizing", ending, ...reason };
    await this.#changeStatus(id, ["validating", "in_progress"], "finalizingAtMs", fields);
  }

  async #changeStatus(
    id: string,
    from: readonly BatchState[],
    timeField: string,
    fields: Record<string, string | number>,
  ): Promise<void> {
    const args = [JSON.stringify(from), timeField, ...Object.entries(fields).flat()];
    await scripts.changeStatus(this.#redis, [batchKey(id)], args);
  }

  /** Claims a custom_id for a line. False if an earlier line has it. */
  async claimCustomId(id: string, customId: string, line: number): Promise<boolean> {
    const key = batchCustomIdsKey(id);
    await this.#redis.hsetnx(key, customId, String(line));
    return (await this.#redis.hget(key, customId)) === String(line);
  }

  /**
   * Moves the read position to the next line.
   * @param result the line's open jobs, or its result if it failed at once; null for a blank line
   * @throws ResultFileFull
   */
  async advance(
    { id, tenant, offset }: Pick<BatchRecord, "id" | "tenant" | "offset">,
    next: { readonly offset: number; readonly line: number },
    result: { readonly open: OpenLine } | { readonly failed: object } | null,
  ): Promise<void> {
    const [kind, value] =
      result === null
        ? ["blank", ""]
        : "open" in result
          ? ["open", JSON.stringify(result.open)]
          : ["failed", toJsonLine(result.failed)];
    const file = resultFileId(id, "error");
    const keys = [batchKey(id), batchLinesKey(id), contentKey(file), fileRoomKey(tenant)];
    const args = [offset, next.offset, next.line, kind, value, file, this.#resultBytesMax];
    requireRoom(await scripts.advanceBatch(this.#redis, keys, args).catch(throwIfFull));
  }

  /** The open lines, by line number. */
  async openLines(id: string): Promise<Map<number, OpenLine>> {
    const lines = Object.entries(await this.#redis.hgetall(batchLinesKey(id)));
    return new Map(lines.map(([number, line]) => [Number(number), v.parse(OpenLine, line)]));
  }

  /** Closes an open line: appends its result and adds its usage to the batch's. @throws ResultFileFull */
  async closeLine(
    { id, tenant }: Pick<BatchRecord, "id" | "tenant">,
    line: number,
    state: "completed" | "failed",
    result: object,
    usage: Usage,
  ): Promise<void> {
    const file = resultFileId(id, state === "completed" ? "output" : "error");
    const keys = [batchKey(id), batchLinesKey(id), contentKey(file), fileRoomKey(tenant)];
    const args = [
      line,
      state,
      toJsonLine(result),
      usage.prompt_tokens,
      usage.prompt_tokens_details.cached_tokens,
      usage.completion_tokens,
      file,
      this.#resultBytesMax,
    ];
    requireRoom(await scripts.closeLine(this.#redis, keys, args).catch(throwIfFull));
  }

  /** Closes an open line without a result. */
  async discardLine(id: string, line: number): Promise<void> {
    await this.#redis.hdel(batchLinesKey(id), String(line));
  }

  /** The results in a file were deleted: no line counts as having one there. */
  async forgetResults(id: string, file: ResultFile): Promise<void> {
    await this.#redis.hset(batchKey(id), { [file === "output" ? "completed" : "failed"]: 0 });
  }

  /** Ends the batch, after its files were completed. */
  async end({ id, tenant }: BatchRecord, state: BatchEnd): Promise<void> {
    await scripts.endBatch(
      this.#redis,
      [
        batchKey(id),
        batchLinesKey(id),
        batchCustomIdsKey(id),
        openBatchesKey(tenant),
        OPEN_BATCHES_KEY,
      ],
      [id, state, LIMITS.fileSecondsMax * 1000],
    );
  }

  /** A field of the batch's hash about one of its files. */
  fileField(id: string, field: string): Promise<string | null> {
    return this.#redis.hget(batchKey(id), field);
  }

  /** Sets a field about one of the batch's files, unless it is set. @returns the field's value afterwards */
  async claimFileField(id: string, field: string, value: string): Promise<string> {
    await this.#redis.hsetnx(batchKey(id), field, value);
    return (await this.fileField(id, field)) ?? value;
  }

  /** Records a part that was uploaded to the bucket, and removes its bytes from Redis. */
  async recordUploadedPart(
    { id, tenant }: Pick<BatchRecord, "id" | "tenant">,
    results: ResultFile,
    parts: { readonly before: string; readonly now: string },
    bytes: number,
  ): Promise<void> {
    const file = resultFileId(id, results);
    const args = [`${results}Parts`, parts.before, parts.now, bytes, file];
    const keys = [batchKey(id), contentKey(file), fileRoomKey(tenant)];
    await scripts.recordUploadedPart(this.#redis, keys, args);
  }
}

/** A result as a line of a JSON Lines file. */
const toJsonLine = (result: object) => `${JSON.stringify(result)}\n`;
