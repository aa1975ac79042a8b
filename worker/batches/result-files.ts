/**
 * A batch's two result files: output and errors. Result lines are appended to a string in Redis. If a bucket is
 * configured, the string's first bytes are uploaded as one part of a multipart upload as soon as it is longer than a part.
 * A part has the same bytes at every try, so if a worker crashes during an upload, the next step uploads the part again.
 */
import * as v from "valibot";
import type { BatchRecord } from "../../shared/batches/record.ts";
import {
  RESULT_FILES,
  resultFileId,
  type BatchStore,
  type ResultFile,
} from "../../shared/batches/store.ts";
import { PART_BYTES, type Bucket } from "../../shared/files/bucket.ts";
import type { FileRecord } from "../../shared/files/record.ts";
import type { FileStore } from "../../shared/files/store.ts";
import { fromJson } from "../../shared/redis/fields.ts";
import { contentKey } from "../../shared/redis/keys.ts";

const UploadedParts = v.pipe(
  fromJson,
  v.array(v.object({ partNumber: v.number(), etag: v.string(), bytes: v.number() })),
);

/** The methods of an ioredis client that are used here. */
export interface ContentClient {
  strlen(key: string): Promise<number>;
  getrangeBuffer(key: string, start: number, end: number): Promise<Uint8Array>;
  del(key: string): Promise<number>;
}

export interface BatchResultFilesDeps {
  readonly redis: ContentClient;
  readonly batches: BatchStore;
  readonly files: FileStore;
  readonly bucket: Bucket | null;
}

/** Moves the result files of batches to the bucket part by part, and completes them at the end. */
export class BatchResultFiles {
  readonly #deps: BatchResultFilesDeps;

  constructor(deps: BatchResultFilesDeps) {
    this.#deps = deps;
  }

  /** Moves full parts from Redis to the bucket; does nothing without a bucket. */
  async uploadFullParts(batch: BatchRecord): Promise<void> {
    const { bucket, redis } = this.#deps;
    if (bucket === null) return;
    for (const kind of RESULT_FILES) {
      const content = contentKey(resultFileId(batch.id, kind));
      while ((await redis.strlen(content)) > (await this.#partBytes(batch.id, kind)))
        await this.#uploadNextPart(bucket, batch, kind);
    }
  }

  /** Completes each file that has lines, and adds it to the tenant's files. Safe to repeat. */
  async finish(batch: BatchRecord): Promise<void> {
    if (batch.completed > 0) await this.#finishFile(batch, "output");
    if (batch.failed > 0) await this.#finishFile(batch, "error");
  }

  /**
   * Deletes the results of a batch whose files cannot be completed, and gives their room back; a file that is complete stays.
   * Safe to repeat.
   */
  async discard({ id, tenant }: Pick<BatchRecord, "id" | "tenant">): Promise<void> {
    const { batches, files, bucket } = this.#deps;
    for (const kind of RESULT_FILES) {
      const fileId = resultFileId(id, kind);
      if ((await files.get(tenant, fileId)) !== null) continue;
      const upload = await batches.fileField(id, `${kind}Upload`);
      // It fails if the upload is complete. The object is deleted then; that fails too if the bucket does not work.
      if (upload !== null) await bucket?.abort(fileId, upload).catch(() => {});
      const place = upload === null ? "redis" : "bucket";
      await files.delete(tenant, { id: fileId, place, purpose: "batch_output" });
      await batches.forgetResults(id, kind);
    }
  }

  async #finishFile(batch: BatchRecord, kind: ResultFile): Promise<void> {
    const { id, tenant, fileSeconds } = batch;
    const { redis, files, bucket } = this.#deps;
    const fileId = resultFileId(id, kind);
    const content = contentKey(fileId);
    let place: FileRecord["place"] = "redis";
    let bytes = await redis.strlen(content);
    if (bucket !== null && (await this.#uploadedParts(id, kind)).length > 0) {
      if (bytes > 0) await this.#uploadNextPart(bucket, batch, kind);
      const parts = await this.#uploadedParts(id, kind);
      await bucket.complete(fileId, await this.#uploadId(bucket, id, kind), parts);
      await redis.del(content);
      place = "bucket";
      bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    }
    const createdAtMs = await files.now();
    await files.save(tenant, {
      id: fileId,
      name: `${id}_${kind}.jsonl`,
      purpose: "batch_output",
      bytes,
      createdAtMs,
      expiresAtMs: createdAtMs + fileSeconds * 1000,
      place,
    });
  }

  /** Uploads the first bytes in Redis as the next part, and removes them from Redis. */
  async #uploadNextPart(bucket: Bucket, batch: BatchRecord, kind: ResultFile): Promise<void> {
    const { redis, batches } = this.#deps;
    const { id } = batch;
    const fileId = resultFileId(id, kind);
    const parts = await this.#uploadedParts(id, kind);
    const bytes = await redis.getrangeBuffer(
      contentKey(fileId),
      0,
      (await this.#partBytes(id, kind)) - 1,
    );
    const upload = await this.#uploadId(bucket, id, kind);
    const part = await bucket.part(fileId, upload, parts.length + 1, bytes);
    const [before, now] = [parts, [...parts, { ...part, bytes: bytes.length }]];
    await batches.recordUploadedPart(
      batch,
      kind,
      { before: JSON.stringify(before), now: JSON.stringify(now) },
      bytes.length,
    );
  }

  /** Bytes of the next part: all parts are as long as the first, which an earlier release may have uploaded. */
  async #partBytes(id: string, kind: ResultFile): Promise<number> {
    return (await this.#uploadedParts(id, kind))[0]?.bytes ?? PART_BYTES;
  }

  /** The parts that have been uploaded so far. */
  async #uploadedParts(id: string, kind: ResultFile) {
    return v.parse(UploadedParts, (await this.#deps.batches.fileField(id, `${kind}Parts`)) ?? "[]");
  }

  /** Id of the multipart upload, which is started if there is none yet. */
  async #uploadId(bucket: Bucket, id: string, kind: ResultFile): Promise<string> {
    const { batches } = this.#deps;
    const field = `${kind}Upload`;
    const known = await batches.fileField(id, field);
    return known ?? batches.claimFileField(id, field, await bucket.begin(resultFileId(id, kind)));
  }
}
