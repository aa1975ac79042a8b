/**
 * The tenants' files: records in Redis, contents in Redis or, if there is a bucket and the file is long, in the bucket.
 * The content of a file is written once, from start to end, and read in ranges.
 */
import type { Bucket } from "./bucket.ts";
import { FILE_VERSION, parseFileRecord, type FileRecord } from "./record.ts";
import { removeFile, reservationError, saveRecord } from "./room.ts";
import { FileWriter, SLICE_BYTES, type Upload } from "./writer.ts";
import { LIMITS } from "../api/limits.ts";
import type { RedisClient } from "../redis/client.ts";
import { redisNow } from "../redis/clock.ts";
import { contentKey, filesKey } from "../redis/keys.ts";

/** The fields of a record that reading the content needs. */
type FileContent = Pick<FileRecord, "id" | "bytes" | "place">;

export class FileStore {
  readonly #redis: RedisClient;
  readonly #bucket: Bucket | null;

  constructor(redis: RedisClient, bucket: Bucket | null) {
    this.#redis = redis;
    this.#bucket = bucket;
  }

  /** Bytes of a file, at most. */
  get bytesMax(): number {
    return this.#bucket === null ? LIMITS.fileInRedisBytesMax : LIMITS.fileBytesMax;
  }

  /** The time of Redis, in Unix ms: the clocks of the processes that save and delete files may differ. */
  now(): Promise<number> {
    return redisNow(this.#redis);
  }

  /** The file; null if there is no such file or it has expired. */
  async get(tenant: string, id: string): Promise<FileRecord | null> {
    const [json, nowMs] = await Promise.all([this.#redis.hget(filesKey(tenant), id), this.now()]);
    const record = json === null ? null : parseFileRecord(json);
    return record !== null && record.expiresAtMs > nowMs ? record : null;
  }

  /** The tenant's files, newest first. Expired files are deleted. */
  async list(tenant: string): Promise<FileRecord[]> {
    const { files, expired } = await this.#read(tenant);
    await this.#deleteAll(tenant, expired);
    return files.sort((a, b) => b.createdAtMs - a.createdAtMs || (a.id < b.id ? 1 : -1));
  }

  /** Deletes the tenant's expired files. @returns how many there were */
  async deleteExpired(tenant: string): Promise<number> {
    const { expired } = await this.#read(tenant);
    await this.#deleteAll(tenant, expired);
    return expired.length;
  }

  async #read(tenant: string): Promise<{ files: FileRecord[]; expired: FileRecord[] }> {
    const records = Object.values(await this.#redis.hgetall(filesKey(tenant))).map(parseFileRecord);
    const nowMs = await this.now();
    const isLive = ({ expiresAtMs }: FileRecord) => expiresAtMs > nowMs;
    return { files: records.filter(isLive), expired: records.filter((file) => !isLive(file)) };
  }

  async #deleteAll(tenant: string, files: readonly FileRecord[]): Promise<void> {
    for (const file of files) await this.delete(tenant, file);
  }

  /**
   * Saves the record of a file whose content is complete. Idempotent.
   * @throws AppError storage_unavailable if the content is lost, or the upload took so long that its room was given back
   */
  async save(tenant: string, file: Omit<FileRecord, "version">): Promise<void> {
    const bytes = file.place === "redis" ? file.bytes : 0;
    const record = JSON.stringify({ ...file, version: FILE_VERSION });
    await saveRecord(this.#redis, tenant, file, record, bytes);
  }

  async delete(
    tenant: string,
    { id, place, purpose }: Pick<FileRecord, "id" | "place" | "purpose">,
  ): Promise<void> {
    if (place === "bucket") await this.#bucket?.delete(id);
    await removeFile(this.#redis, tenant, id, purpose);
  }

  /** Reads the bytes from `from` (inclusive) to `to` (exclusive), in pieces; fewer if the content is deleted meanwhile. */
  async *read({ id, place, bytes }: FileContent, from = 0, to = bytes): AsyncGenerator<Uint8Array> {
    const end = Math.min(to, bytes);
    if (from >= end) return;
    if (place === "bucket") {
      if (this.#bucket === null)
        throw new Error(`File ${id} is stored in a bucket, but FILES_S3_ENDPOINT is not set`);
      yield* this.#bucket.read(id, from, end);
      return;
    }
    for (let at = from; at < end;) {
      const last = Math.min(at + SLICE_BYTES, end) - 1;
      const slice = await this.#redis.getrangeBuffer(contentKey(id), at, last);
      if (slice.length === 0) return;
      yield slice;
      at += slice.length;
    }
  }

  /**
   * Opens an upload: reserves room for it, so it is called before the body is read. Expired files make room first.
   * @throws AppError rate_limit_exceeded, invalid_request if the tenant has no room for another file
   */
  async openUpload(upload: Upload): Promise<FileWriter> {
    const writer = new FileWriter(this.#redis, this.#bucket, upload);
    let reservation = await writer.reserve();
    if (reservation === "files" || reservation === "bytes") {
      await this.deleteExpired(upload.tenant);
      reservation = await writer.reserve();
    }
    if (reservation !== "ok") throw reservationError(reservation);
    return writer;
  }
}
