/**
 * Writes the content of one upload while it arrives. Without a bucket it goes to Redis in slices. With a bucket one part is
 * held in memory, and uploaded when more bytes arrive; a file of at most one part goes to Redis.
 */
import { PART_BYTES, type Bucket, type Part } from "./bucket.ts";
import { rememberUpload } from "./lost-uploads.ts";
import type { FileRecord } from "./record.ts";
import {
  appendContent,
  LEASE_RENEWAL_MS,
  removeFile,
  reservationError,
  reserveRoom,
  type Reservation,
} from "./room.ts";
import { AppError } from "../api/errors.ts";
import { LIMITS } from "../api/limits.ts";
import type { RedisClient } from "../redis/client.ts";

/** Bytes that one command sends to Redis or reads from it at most, so that it does not delay other commands for long. */
export const SLICE_BYTES = 2 ** 18;
/** An upload of unknown length reserves room in steps of this many bytes. */
const RESERVATION_STEP_BYTES = 2 ** 20;

export interface Upload {
  readonly tenant: string;
  readonly id: string;
  /** An upper bound of the file's bytes if the request tells one, else null. */
  readonly bytesMax: number | null;
}

export class FileWriter {
  readonly #redis: RedisClient;
  readonly #bucket: Bucket | null;
  readonly #upload: Upload;
  readonly #utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  /** Bytes that are not written yet: the first `#pendingBytes` of the array. */
  #pending: Uint8Array;
  #pendingBytes = 0;
  /** Bytes before the pending ones, in the bucket or given to the decoder. */
  #writtenBytes = 0;
  /** Bytes of the content in Redis. */
  #appendedBytes = 0;
  #reservedBytes = 0;
  #renewedAtMs = 0;
  #multipartId: string | null = null;
  readonly #parts: Part[] = [];

  constructor(redis: RedisClient, bucket: Bucket | null, upload: Upload) {
    this.#redis = redis;
    this.#bucket = bucket;
    this.#upload = upload;
    this.#pending = new Uint8Array(Math.min(this.#pendingMax, upload.bytesMax ?? SLICE_BYTES));
  }

  get bytes(): number {
    return this.#writtenBytes + this.#pendingBytes;
  }

  /** Bytes that are held in memory at most. */
  get #pendingMax(): number {
    return this.#bucket === null ? SLICE_BYTES : PART_BYTES;
  }

  /**
   * Reserves room, and renews the upload's lease. It keeps what it had if there is no more room.
   * @param bytes that the file may have in all; those in the bucket take no room
   */
  async reserve(bytes = this.#upload.bytesMax ?? RESERVATION_STEP_BYTES): Promise<Reservation> {
    const { tenant, id } = this.#upload;
    const inRedisMax = this.#bucket === null ? LIMITS.fileInRedisBytesMax : PART_BYTES;
    const wanted = this.#multipartId === null ? Math.min(bytes, inRedisMax) : 0;
    const reservation = await reserveRoom(this.#redis, tenant, id, wanted);
    if (reservation === "ok") {
      this.#reservedBytes = bytes;
      this.#renewedAtMs = Date.now();
    }
    return reservation;
  }

  /** @throws AppError invalid_request if the bytes are not UTF-8 or there is no room for them */
  async write(chunk: Uint8Array): Promise<void> {
    if (this.bytes + chunk.length > this.#reservedBytes && this.#multipartId === null) {
      await this.#keepRoom(this.bytes + chunk.length + RESERVATION_STEP_BYTES);
    } else if (Date.now() - this.#renewedAtMs > LEASE_RENEWAL_MS) {
      await this.#keepRoom(this.#reservedBytes);
    }
    for (let at = 0; at < chunk.length;) {
      if (this.#pendingBytes === this.#pendingMax) await this.#flush();
      const piece = chunk.subarray(at, at + this.#pendingMax - this.#pendingBytes);
      this.#grow(this.#pendingBytes + piece.length);
      this.#pending.set(piece, this.#pendingBytes);
      this.#pendingBytes += piece.length;
      at += piece.length;
    }
  }

  /**
   * Completes the content.
   * @returns where it is stored
   * @throws AppError invalid_request if it is not UTF-8
   */
  async end(): Promise<FileRecord["place"]> {
    if (this.#bucket === null || this.#multipartId === null) {
      await this.#appendPending(false);
      return "redis";
    }
    await this.#uploadPart(this.#bucket, false);
    await this.#bucket.complete(this.#upload.id, this.#multipartId, this.#parts);
    return "bucket";
  }

  /** Deletes what was written, and gives the room back. */
  async abort(): Promise<void> {
    const { tenant, id } = this.#upload;
    await removeFile(this.#redis, tenant, id, "batch");
    if (this.#multipartId !== null) await this.#bucket?.abort(id, this.#multipartId);
  }

  async #keepRoom(bytes: number): Promise<void> {
    const reservation = await this.reserve(bytes);
    if (reservation !== "ok") throw reservationError(reservation);
  }

  #grow(bytes: number): void {
    if (bytes <= this.#pending.length) return;
    const larger = new Uint8Array(
      Math.min(this.#pendingMax, Math.max(bytes, 2 * this.#pending.length)),
    );
    larger.set(this.#pending.subarray(0, this.#pendingBytes));
    this.#pending = larger;
  }

  async #flush(): Promise<void> {
    if (this.#bucket === null) return this.#appendPending(true);
    const isFirst = this.#multipartId === null;
    if (isFirst) {
      this.#multipartId = await this.#bucket.begin(this.#upload.id);
      await rememberUpload(this.#redis, this.#upload, this.#multipartId);
    }
    await this.#uploadPart(this.#bucket, true);
    // From now on the file lies in the bucket.
    if (isFirst) await this.#keepRoom(0);
  }

  async #uploadPart(bucket: Bucket, hasMore: boolean): Promise<void> {
    const bytes = this.#pending.subarray(0, this.#pendingBytes);
    for (let at = 0; at < bytes.length; at += SLICE_BYTES) {
      this.#decode(bytes.subarray(at, at + SLICE_BYTES), true);
    }
    if (!hasMore) this.#decode(new Uint8Array(0), false);
    const number = this.#parts.length + 1;
    this.#parts.push(await bucket.part(this.#upload.id, this.#multipartId!, number, bytes));
    this.#writtenBytes += bytes.length;
    this.#pendingBytes = 0;
  }

  /** Appends the pending bytes in slices. The end of a slice may be inside a character, whose first bytes the decoder keeps. */
  async #appendPending(hasMore: boolean): Promise<void> {
    const { tenant, id } = this.#upload;
    const bytes = this.#pending.subarray(0, this.#pendingBytes);
    for (let at = 0; at < bytes.length || at === 0; at += SLICE_BYTES) {
      const slice = bytes.subarray(at, at + SLICE_BYTES);
      const text = this.#decode(slice, hasMore || at + SLICE_BYTES < bytes.length);
      await appendContent(this.#redis, tenant, id, this.#appendedBytes, text);
      this.#appendedBytes += new TextEncoder().encode(text).length;
    }
    this.#writtenBytes += bytes.length;
    this.#pendingBytes = 0;
  }

  #decode(bytes: Uint8Array, hasMore: boolean): string {
    try {
      return this.#utf8.decode(bytes, { stream: hasMore });
    } catch {
      throw new AppError("invalid_request", "file must be UTF-8", { param: "file" });
    }
  }
}
