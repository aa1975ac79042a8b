/**
 * The two files that a batch makes. Results are appended in Redis; where there is a bucket, what has grown to a part goes
 * there. A part is always the same bytes, so a worker that dies in between is one whose part is sent again.
 */
import * as v from "valibot";
import {
  RESULTS,
  resultFileId,
  type BatchRecord,
  type BatchStore,
  type Results,
} from "../shared/batch-store.ts";
import { PART_BYTES, type Bucket } from "../shared/bucket.ts";
import type { FileRecord, FileStore } from "../shared/file-store.ts";
import { fromJson } from "../shared/record-fields.ts";
import { contentKey } from "../shared/redis-keys.ts";

const Parts = v.pipe(
  fromJson,
  v.array(v.object({ partNumber: v.number(), etag: v.string(), bytes: v.number() })),
);

/** The part of an ioredis client that this needs. */
export interface ContentClient {
  strlen(key: string): Promise<number>;
  getrangeBuffer(key: string, start: number, end: number): Promise<Uint8Array>;
  del(key: string): Promise<number>;
}

export interface BatchFilesDeps {
  readonly redis: ContentClient;
  readonly batches: BatchStore;
  readonly files: FileStore;
  readonly bucket: Bucket | null;
}

export class BatchFiles {
  readonly #deps: BatchFilesDeps;

  constructor(deps: BatchFilesDeps) {
    this.#deps = deps;
  }

  /** Moves whole parts to the bucket. */
  async spill({ id }: BatchRecord): Promise<void> {
    const { bucket, redis } = this.#deps;
    if (bucket === null) return;
    for (const results of RESULTS) {
      const content = contentKey(resultFileId(id, results));
      while ((await redis.strlen(content)) > PART_BYTES) await this.#flush(bucket, id, results);
    }
  }

  /** Completes and lists both files, as far as they have lines. */
  async finish(batch: BatchRecord): Promise<void> {
    if (batch.completed > 0) await this.#finish(batch, "output");
    if (batch.failed > 0) await this.#finish(batch, "error");
  }

  async #finish({ id, tenant, fileSeconds }: BatchRecord, results: Results): Promise<void> {
    const { redis, files, bucket } = this.#deps;
    const fileId = resultFileId(id, results);
    const content = contentKey(fileId);
    let place: FileRecord["place"] = "redis";
    let bytes = await redis.strlen(content);
    if (bucket !== null && (await this.#parts(id, results)).length > 0) {
      if (bytes > 0) await this.#flush(bucket, id, results);
      const parts = await this.#parts(id, results);
      await bucket.complete(fileId, await this.#upload(bucket, id, results), parts);
      await redis.del(content);
      place = "bucket";
      bytes = parts.reduce((sum, part) => sum + part.bytes, 0);
    }
    const createdAtMs = Date.now();
    await files.save(tenant, {
      id: fileId,
      name: `${id}_${results}.jsonl`,
      purpose: "batch_output",
      bytes,
      createdAtMs,
      expiresAtMs: createdAtMs + fileSeconds * 1000,
      place,
    });
  }

  /** Sends the first part of what is in Redis. */
  async #flush(bucket: Bucket, id: string, results: Results): Promise<void> {
    const { redis, batches } = this.#deps;
    const fileId = resultFileId(id, results);
    const parts = await this.#parts(id, results);
    const bytes = await redis.getrangeBuffer(contentKey(fileId), 0, PART_BYTES - 1);
    const upload = await this.#upload(bucket, id, results);
    const part = await bucket.part(fileId, upload, parts.length + 1, bytes);
    const [before, now] = [parts, [...parts, { ...part, bytes: bytes.length }]];
    await batches.flushed(
      id,
      results,
      { before: JSON.stringify(before), now: JSON.stringify(now) },
      bytes.length,
    );
  }

  async #parts(id: string, results: Results) {
    return v.parse(Parts, (await this.#deps.batches.fileField(id, `${results}Parts`)) ?? "[]");
  }

  async #upload(bucket: Bucket, id: string, results: Results): Promise<string> {
    const { batches } = this.#deps;
    const field = `${results}Upload`;
    const known = await batches.fileField(id, field);
    return (
      known ?? batches.claimFileField(id, field, await bucket.begin(resultFileId(id, results)))
    );
  }
}
