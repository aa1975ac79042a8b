/**
 * Uploads whose process was lost while they were in the bucket: their parts stay there, and cost money, until they are aborted. Each
 * upload is remembered in Redis when it begins an object, and forgotten when it is saved as a file or cleaned up.
 */
import type { Bucket } from "./bucket.ts";
import type { RedisClient } from "../redis/client.ts";
import { redisNow } from "../redis/clock.ts";
import { filesKey, fileUploadsKey, MULTIPART_UPLOADS_KEY } from "../redis/keys.ts";

export async function rememberUpload(
  redis: RedisClient,
  { tenant, id }: { readonly tenant: string; readonly id: string },
  uploadId: string,
): Promise<void> {
  await redis.hset(MULTIPART_UPLOADS_KEY, { [id]: `${tenant} ${uploadId}` });
}

/**
 * Removes what lost uploads have left in the bucket. An upload is lost when its lease has ended (room.ts) and it is no file.
 * @throws BucketError if the bucket does not work; the next call tries again
 */
export async function removeLostUploads(redis: RedisClient, bucket: Bucket): Promise<void> {
  const [uploads, nowMs] = await Promise.all([
    redis.hgetall(MULTIPART_UPLOADS_KEY),
    redisNow(redis),
  ]);
  for (const [id, value] of Object.entries(uploads)) {
    const [tenant = "", uploadId = ""] = value.split(" ");
    const leaseEndsMs = await redis.zscore(fileUploadsKey(tenant), id);
    if (leaseEndsMs !== null && Number(leaseEndsMs) > nowMs) continue;
    // After the lease: an upload that is saved loses both in one step.
    if ((await redis.hget(filesKey(tenant), id)) === null) await bucket.discard(id, uploadId);
    await redis.hdel(MULTIPART_UPLOADS_KEY, id);
  }
}
