/** The result files of batches in a real S3-compatible bucket. */
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { newId } from "../../../shared/ids.ts";
import type { BatchRecord } from "../../../shared/batches/record.ts";
import { BatchStore, resultFileId } from "../../../shared/batches/store.ts";
import { bucketOf, PART_BYTES, type Bucket } from "../../../shared/files/bucket.ts";
import { FileStore } from "../../../shared/files/store.ts";
import { contentKey, fileRoomKey } from "../../../shared/redis/keys.ts";
import { BatchResultFiles } from "../../../worker/batches/result-files.ts";
import { collectBytes, numberedLines } from "../../support/bytes.ts";
import { startS3, type S3 } from "../../support/s3.ts";

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

async function batch(): Promise<BatchRecord> {
  const id = newId("batch");
  await batches.create({
    id,
    tenant: newId("tenant"),
    keyId: "key",
    endpoint: "/v1/chat/completions",
    inputFileId: "file",
    metadata: {},
    fileSeconds: 3_600,
  });
  return { ...(await batches.get(id))!, completed: 1 };
}

test("a batch's output moves to the bucket part by part, even if every step is done twice", async () => {
  const resultFiles = new BatchResultFiles({ redis, batches, files, bucket });
  const record = await batch();
  const content = contentKey(resultFileId(record.id, "output"));
  const all = numberedLines(2.5 * PART_BYTES);
  for (let at = 0; at < all.length; at += PART_BYTES / 2) {
    await redis.append(content, Buffer.from(all.subarray(at, at + PART_BYTES / 2)));
    // Two workers, each of which considers the other one lost.
    await Promise.all([resultFiles.uploadFullParts(record), resultFiles.uploadFullParts(record)]);
  }
  expect(await redis.strlen(content)).toBeLessThanOrEqual(PART_BYTES);
  await resultFiles.finish(record);
  const [file] = await files.list(record.tenant);
  expect(file).toMatchObject({ bytes: all.length, place: "bucket", purpose: "batch_output" });
  expect(Buffer.compare(await collectBytes(files.read(file!)), all)).toBe(0);
  expect(await redis.exists(content)).toBe(0);

  await resultFiles.finish(record);
  expect(await files.list(record.tenant)).toMatchObject([{ bytes: all.length }]);
  await files.delete(record.tenant, file!);
  await expect(collectBytes(files.read(file!))).rejects.toThrow("404");
});

test("results that are discarded leave nothing in Redis or the bucket", async () => {
  const resultFiles = new BatchResultFiles({ redis, batches, files, bucket });
  const record = await batch();
  const fileId = resultFileId(record.id, "output");
  await redis.append(contentKey(fileId), Buffer.from(numberedLines(1.5 * PART_BYTES)));
  await resultFiles.uploadFullParts(record);
  const upload = (await batches.fileField(record.id, "outputUpload"))!;
  // The test's bucket takes parts of an upload that was aborted.
  const abort = vi.spyOn(bucket, "abort");
  await resultFiles.discard(record);
  await resultFiles.discard(record);
  expect(await redis.exists(contentKey(fileId))).toBe(0);
  expect(abort).toHaveBeenCalledWith(fileId, upload);
  expect(await redis.hget(fileRoomKey(record.tenant), "batch_output")).toBe("0");
});
