/** Files that are too long for Redis, and what a batch writes, in a real S3-compatible bucket. */
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../infra/stack/redis.ts";
import { newId } from "../../shared/api-key.ts";
import { BatchStore, resultFileId, type BatchRecord } from "../../shared/batch-store.ts";
import { bucketOf, PART_BYTES, type Bucket } from "../../shared/bucket.ts";
import { FileStore } from "../../shared/file-store.ts";
import { contentKey } from "../../shared/redis-keys.ts";
import { BatchFiles } from "../../worker/batch-files.ts";
import { startS3, type S3 } from "../support/s3.ts";

let server: RedisServer;
let redis: Redis;
let s3: S3;
let bucket: Bucket;
let files: FileStore;
let batches: BatchStore;

beforeAll(async () => {
  [server, s3] = await Promise.all([startRedis(), startS3()]);
  redis = new Redis(server.url);
  bucket = bucketOf(s3.env)!;
  files = new FileStore(redis, bucket);
  batches = new BatchStore(redis);
});

afterAll(async () => {
  redis.disconnect();
  await Promise.all([server.stop(), s3.stop()]);
});

/** Text whose every line is different, so that none can be lost or swapped unseen. */
function text(bytes: number): Uint8Array {
  const all = new Uint8Array(bytes);
  const line = new TextEncoder();
  for (let at = 0; at < bytes; at += 10) {
    line.encodeInto(`${String(at).padStart(9, "0")}\n`, all.subarray(at));
  }
  return all;
}

async function bytesOf(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  return Buffer.concat(await Array.fromAsync(chunks));
}

/** Writes it in chunks that divide nothing evenly. */
async function write(id: string, content: Uint8Array) {
  const writer = files.writer(id);
  for (let at = 0; at < content.length; at += 1_000_003) {
    await writer.write(content.subarray(at, at + 1_000_003));
  }
  return { id, bytes: writer.bytes, place: await writer.end() };
}

test.each([
  ["one byte", 1, "redis"],
  ["a part", PART_BYTES, "redis"],
  ["a byte more", PART_BYTES + 1, "bucket"],
  ["two parts and a half", 2.5 * PART_BYTES, "bucket"],
])("a file of %s is read as it was written, from anywhere", async (_, bytes, place) => {
  const content = text(bytes);
  const file = await write(newId("file"), content);
  expect(file).toMatchObject({ bytes, place });
  expect(Buffer.compare(await bytesOf(files.read(file)), content)).toBe(0);
  const middle = Math.floor(bytes / 2);
  const some = await bytesOf(files.read(file, middle, middle + 100));
  expect(Buffer.compare(some, content.subarray(middle, middle + 100))).toBe(0);
});

async function batch(): Promise<BatchRecord> {
  const id = newId("batch");
  await batches.create({
    id,
    tenant: newId("tenant"),
    keyId: "key",
    endpoint: "/v1/chat/completions",
    inputFileId: "file",
    metadata: {},
    createdAtMs: Date.now(),
    fileSeconds: 3_600,
  });
  return { ...(await batches.one(id))!, completed: 1 };
}

test("a batch's output grows into the bucket, whichever step is made twice", async () => {
  const ours = new BatchFiles({ redis, batches, files, bucket });
  const record = await batch();
  const content = contentKey(resultFileId(record.id, "output"));
  const all = text(2.5 * PART_BYTES);
  for (let at = 0; at < all.length; at += PART_BYTES / 2) {
    await redis.append(content, Buffer.from(all.subarray(at, at + PART_BYTES / 2)));
    // Two workers, each of which takes the other for dead.
    await Promise.all([ours.spill(record), ours.spill(record)]);
  }
  expect(await redis.strlen(content)).toBeLessThanOrEqual(PART_BYTES);
  await ours.finish(record);
  const [file] = await files.all(record.tenant);
  expect(file).toMatchObject({ bytes: all.length, place: "bucket", purpose: "batch_output" });
  expect(Buffer.compare(await bytesOf(files.read(file!)), all)).toBe(0);
  expect(await redis.exists(content)).toBe(0);

  await ours.finish(record);
  expect(await files.all(record.tenant)).toMatchObject([{ bytes: all.length }]);
  await files.delete(record.tenant, file!);
  await expect(bytesOf(files.read(file!))).rejects.toThrow("404");
});
