/**
 * A tenant's files: short ones in Redis, long ones in a bucket where there is one. Content is written once, from its
 * beginning, and read in ranges.
 */
import * as v from "valibot";
import { PART_BYTES, type Bucket, type Part } from "./bucket.ts";
import type { FileObject } from "./file-contract.ts";
import { fromJson } from "./record-fields.ts";
import { LIMITS } from "./limits.ts";
import type { RedisClient } from "./redis-client.ts";
import { contentKey, filesKey } from "./redis-keys.ts";

/** Bytes that one command reads of Redis: none keeps it from others for long. */
const SLICE_BYTES = 2 ** 18;

const Stored = v.object({
  id: v.string(),
  name: v.string(),
  purpose: v.picklist(["batch", "batch_output"]),
  bytes: v.number(),
  createdAtMs: v.number(),
  expiresAtMs: v.number(),
  place: v.picklist(["redis", "bucket"]),
});
export type FileRecord = v.InferOutput<typeof Stored>;

const parse = (json: string) => v.parse(v.pipe(fromJson, Stored), json);

/** What a file's content needs to know of it. */
type Content = Pick<FileRecord, "id" | "bytes" | "place">;

export class FileStore {
  readonly #redis: RedisClient;
  readonly #bucket: Bucket | null;

  constructor(redis: RedisClient, bucket: Bucket | null) {
    this.#redis = redis;
    this.#bucket = bucket;
  }

  /** Bytes that a file may have. */
  get bytesMax(): number {
    return this.#bucket === null ? LIMITS.fileInRedisBytesMax : LIMITS.fileBytesMax;
  }

  /** The file, or null if there is none, or none any more. */
  async one(tenant: string, id: string): Promise<FileRecord | null> {
    const json = await this.#redis.hget(filesKey(tenant), id);
    const record = json === null ? null : parse(json);
    return record !== null && record.expiresAtMs > Date.now() ? record : null;
  }

  /** Newest first. Those whose time has come are deleted. */
  async all(tenant: string): Promise<FileRecord[]> {
    const records = Object.values(await this.#redis.hgetall(filesKey(tenant))).map(parse);
    const nowMs = Date.now();
    const expired = records.filter(({ expiresAtMs }) => expiresAtMs <= nowMs);
    for (const record of expired) await this.delete(tenant, record);
    return records
      .filter(({ expiresAtMs }) => expiresAtMs > nowMs)
      .sort((a, b) => b.createdAtMs - a.createdAtMs || (a.id < b.id ? 1 : -1));
  }

  /** Lists a file whose content is complete. Idempotent. */
  async save(tenant: string, record: FileRecord): Promise<void> {
    await this.#redis.hset(filesKey(tenant), { [record.id]: JSON.stringify(record) });
    if (record.place === "redis") {
      await this.#redis.pexpireat(contentKey(record.id), record.expiresAtMs);
    }
  }

  async delete(tenant: string, { id, place }: FileRecord): Promise<void> {
    if (place === "bucket") await this.#bucket?.delete(id);
    await Promise.all([this.#redis.del(contentKey(id)), this.#redis.hdel(filesKey(tenant), id)]);
  }

  /** Bytes from `from` up to, without, `to`, as they come; fewer if the content is gone. */
  async *read({ id, place, bytes }: Content, from = 0, to = bytes): AsyncGenerator<Uint8Array> {
    const end = Math.min(to, bytes);
    if (from >= end) return;
    if (place === "bucket") {
      if (this.#bucket === null)
        throw new Error("The file lies in a bucket that is not configured");
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

  /** Takes a new file's content in, which is UTF-8, never holding more than a part of it. */
  writer(id: string): FileWriter {
    return new FileWriter(this.#redis, this.#bucket, id);
  }
}

export class FileWriter {
  readonly #redis: RedisClient;
  readonly #bucket: Bucket | null;
  readonly #id: string;
  #upload: string | null = null;
  readonly #parts: Part[] = [];
  /** What waits to be written, in order. */
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #bytes = 0;

  constructor(redis: RedisClient, bucket: Bucket | null, id: string) {
    this.#redis = redis;
    this.#bucket = bucket;
    this.#id = id;
  }

  get bytes(): number {
    return this.#bytes;
  }

  async write(chunk: Uint8Array): Promise<void> {
    this.#waiting.push(chunk);
    this.#waitingBytes += chunk.length;
    this.#bytes += chunk.length;
    while (this.#bucket !== null && this.#waitingBytes > PART_BYTES) {
      await this.#flush(this.#bucket, PART_BYTES);
    }
  }

  async end(): Promise<FileRecord["place"]> {
    const bucket = this.#bucket;
    if (bucket !== null && this.#upload !== null) {
      await this.#flush(bucket, this.#waitingBytes);
      await bucket.complete(this.#id, this.#upload, this.#parts);
      return "bucket";
    }
    const content = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(
      this.#take(this.#waitingBytes),
    );
    // It ends by itself, should nobody come to list the file.
    await this.#redis.set(contentKey(this.#id), content, "PX", LIMITS.fileSecondsMax * 1000);
    return "redis";
  }

  /** Forgets what was written. */
  async abort(): Promise<void> {
    if (this.#upload !== null) await this.#bucket?.abort(this.#id, this.#upload);
    await this.#redis.del(contentKey(this.#id));
  }

  async #flush(bucket: Bucket, bytes: number): Promise<void> {
    this.#upload ??= await bucket.begin(this.#id);
    const number = this.#parts.length + 1;
    this.#parts.push(await bucket.part(this.#id, this.#upload, number, this.#take(bytes)));
  }

  /** The first bytes of what waits, which does not wait any more. */
  #take(bytes: number): Uint8Array {
    const taken = new Uint8Array(bytes);
    let at = 0;
    while (at < bytes) {
      const [first] = this.#waiting;
      if (first === undefined) throw new Error("There is less than was asked for");
      const piece = first.subarray(0, bytes - at);
      taken.set(piece, at);
      at += piece.length;
      if (piece.length === first.length) this.#waiting.shift();
      else this.#waiting[0] = first.subarray(piece.length);
    }
    this.#waitingBytes -= bytes;
    return taken;
  }
}

export function toFileObject(record: FileRecord): FileObject {
  return {
    id: record.id,
    object: "file",
    bytes: record.bytes,
    created_at: Math.floor(record.createdAtMs / 1000),
    expires_at: Math.floor(record.expiresAtMs / 1000),
    filename: record.name,
    purpose: record.purpose,
    status: "processed",
  };
}
