/** Files in Redis and in a real S3-compatible bucket. */
import { Redis } from "ioredis";
import { afterAll, beforeAll, expect, test } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { bucketOf, PART_BYTES } from "../../../shared/files/bucket.ts";
import { FILE_VERSION, type FileRecord } from "../../../shared/files/record.ts";
import { removeLostUploads } from "../../../shared/files/lost-uploads.ts";
import { FileStore } from "../../../shared/files/store.ts";
import { LIMITS } from "../../../shared/api/limits.ts";
import {
  contentKey,
  fileRoomKey,
  fileUploadsKey,
  MULTIPART_UPLOADS_KEY,
} from "../../../shared/redis/keys.ts";
import { newId } from "../../../shared/ids.ts";
import { collectBytes, numberedLines } from "../../support/bytes.ts";
import { startS3, type S3 } from "../../support/s3.ts";

let server: RedisServer;
let redis: Redis;
let s3: S3;
let files: FileStore;

beforeAll(async () => {
  [server, s3] = await Promise.all([startRedis(), startS3()]);
  redis = new Redis(server.url);
  files = new FileStore(redis, bucketOf(s3.env));
});

afterAll(async () => {
  redis.disconnect();
  await Promise.all([server.stop(), s3.stop()]);
});

/** Writes the content in chunks whose length divides no other length used here. */
async function write(id: string, content: Uint8Array) {
  const writer = await files.openUpload({ tenant: newId("tenant"), id, bytesMax: null });
  for (let at = 0; at < content.length; at += 1_000_003) {
    await writer.write(content.subarray(at, at + 1_000_003));
  }
  const place = await writer.end();
  return { id, bytes: writer.bytes, place };
}

test.each([
  ["one byte", 1, "redis"],
  ["a part", PART_BYTES, "redis"],
  ["a byte more", PART_BYTES + 1, "bucket"],
  ["two parts and a half", 2.5 * PART_BYTES, "bucket"],
])("a file of %s is read unchanged, from any offset", async (_, bytes, place) => {
  const content = numberedLines(bytes);
  const file = await write(newId("file"), content);
  expect(file).toMatchObject({ bytes, place });
  expect(Buffer.compare(await collectBytes(files.read(file)), content)).toBe(0);
  const middle = Math.floor(bytes / 2);
  const some = await collectBytes(files.read(file, middle, middle + 100));
  expect(Buffer.compare(some, content.subarray(middle, middle + 100))).toBe(0);
});

const MIB = 2 ** 20;
const inRedis = () => new FileStore(redis, null);
const open = (tenant: string, bytesMax: number | null = 2 * MIB) =>
  inRedis().openUpload({ tenant, id: newId("file"), bytesMax });

/** A file of a tenant whose content is in Redis. */
async function upload(tenant: string, bytes: number, bytesMax: number | null = bytes) {
  const id = newId("file");
  const writer = await inRedis().openUpload({ tenant, id, bytesMax });
  await writer.write(numberedLines(bytes));
  const file: FileRecord = {
    version: FILE_VERSION,
    id,
    name: "in.jsonl",
    purpose: "batch",
    place: await writer.end(),
    bytes: writer.bytes,
    createdAtMs: Date.now(),
    expiresAtMs: Date.now() + 3_600_000,
  };
  return { file, save: () => inRedis().save(tenant, file) };
}

test("uploads that are open at the same time cannot pass the limit of bytes together", async () => {
  const tenant = newId("tenant");
  // Room for two files more.
  await redis.hset(fileRoomKey(tenant), "batch", LIMITS.filesInRedisBytesMax - 4 * MIB);
  const results = await Promise.allSettled([open(tenant), open(tenant), open(tenant)]);
  expect(results.map(({ status }) => status).toSorted()).toEqual([
    "fulfilled",
    "fulfilled",
    "rejected",
  ]);
  expect(results.find(({ status }) => status === "rejected")).toMatchObject({
    reason: { code: "invalid_request", param: "file" },
  });
});

test("an upload of unknown length reserves room as it arrives, and is refused where there is none", async () => {
  const tenant = newId("tenant");
  await redis.hset(fileRoomKey(tenant), "batch", LIMITS.filesInRedisBytesMax - 3 * MIB);
  await expect(upload(tenant, 4 * MIB, null)).rejects.toMatchObject({ code: "invalid_request" });
  const writer = await open(newId("tenant"), null);
  await writer.write(numberedLines(4 * MIB));
  expect(writer.bytes).toBe(4 * MIB);
});

test("a tenant has a limit of uploads at once; a lost upload gives its place and room back", async () => {
  const tenant = newId("tenant");
  const uploads = await Promise.all(
    Array.from({ length: LIMITS.uploadsPerTenantMax }, () => open(tenant)),
  );
  await expect(open(tenant)).rejects.toMatchObject({ code: "rate_limit_exceeded" });
  await uploads[0]!.abort();
  await open(tenant);
  // Their leases end.
  for (const id of await redis.zrange(fileUploadsKey(tenant), "0", "-1")) {
    await redis.zadd(fileUploadsKey(tenant), 1, id);
  }
  await open(tenant);
  expect(await redis.hget(fileRoomKey(tenant), "batch")).toBe(String(2 * MIB));
  expect(await redis.zcard(fileUploadsKey(tenant))).toBe(1);
});

test("saving counts a file's own bytes, deleting gives them back, and both may be repeated", async () => {
  const tenant = newId("tenant");
  const { file, save } = await upload(tenant, 600_000, MIB);
  await save();
  await save();
  expect(await redis.hget(fileRoomKey(tenant), "batch")).toBe("600000");
  expect(await redis.pttl(contentKey(file.id))).toBeGreaterThan(3_500_000);
  await inRedis().delete(tenant, file);
  await inRedis().delete(tenant, file);
  expect(await redis.hgetall(fileRoomKey(tenant))).toEqual({ batch: "0" });
});

test("a file is not saved if a part of it was lost", async () => {
  const { file, save } = await upload(newId("tenant"), 600_000);
  await redis.setrange(contentKey(file.id), 600_000, "x");
  await expect(save()).rejects.toMatchObject({ code: "storage_unavailable" });
});

test("what uploads of lost processes have left in the bucket is removed; open uploads and files stay", async () => {
  const bucket = bucketOf(s3.env)!;
  const content = numberedLines(2 * PART_BYTES);
  const begin = async (tenant: string) => {
    const id = newId("file");
    const writer = await files.openUpload({ tenant, id, bytesMax: null });
    await writer.write(content);
    return { id, writer, tenant };
  };
  const tenants = ["receiving", "lost", "complete", "saved"];
  const [receiving, lost, complete, saved] = await Promise.all(tenants.map(begin));
  for (const { writer } of [complete!, saved!]) expect(await writer.end()).toBe("bucket");
  await files.save("saved", {
    ...(await upload("saved", 10)).file,
    id: saved!.id,
    bytes: content.length,
    place: "bucket",
  });
  // Their leases have ended.
  for (const { tenant } of [lost!, complete!]) await redis.del(fileUploadsKey(tenant));
  await removeLostUploads(redis, bucket);

  await expect(lost!.writer.end()).rejects.toThrow("S3 returned");
  await expect(
    collectBytes(files.read({ id: complete!.id, bytes: 3, place: "bucket" })),
  ).rejects.toThrow("S3 returned");
  expect(await receiving!.writer.end()).toBe("bucket");
  expect(
    await collectBytes(files.read({ id: saved!.id, bytes: content.length, place: "bucket" })),
  ).toHaveLength(content.length);
  expect(Object.keys(await redis.hgetall(MULTIPART_UPLOADS_KEY))).toContain(receiving!.id);
  expect(Object.keys(await redis.hgetall(MULTIPART_UPLOADS_KEY))).not.toContain(lost!.id);
});
