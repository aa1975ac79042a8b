/**
 * The room that a tenant's files take up in Redis. An upload reserves its bytes before its body is read, so parallel uploads
 * cannot pass the limit together. If the process of an upload is lost, its reservation ends with its lease.
 * The purposes are counted separately, so that uploads do not take the room of a batch's results.
 */
import type { FilePurpose } from "./record.ts";
import { AppError } from "../api/errors.ts";
import { LIMITS } from "../api/limits.ts";
import type { RedisClient } from "../redis/client.ts";
import { contentKey, fileRoomKey, filesKey, fileUploadsKey } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";

/** An upload of which nothing has arrived for this time gives its room back. */
const LEASE_MS = 120_000;
/** An open upload renews its lease after this time. */
export const LEASE_RENEWAL_MS = LEASE_MS / 3;
/** Wait that is told to a client whose tenant has as many uploads as allowed. */
const BUSY_RETRY_MS = 5_000;

/**
 * A Lua function that sets the bytes of one file in Redis and the sum of its purpose.
 * It needs the key that holds both (keys.ts, fileRoomKey).
 */
export const FILE_ROOM_LUA = `
local function setFileRoom(room, purpose, id, bytes)
  local before = tonumber(redis.call('HGET', room, id) or '0')
  if bytes > 0 then redis.call('HSET', room, id, bytes) else redis.call('HDEL', room, id) end
  if bytes ~= before then redis.call('HINCRBY', room, purpose, bytes - before) end
end
`;

/**
 * Reserves room for a new upload, or changes the room of an open one and renews its lease.
 *
 * KEYS: files, uploads, room. ARGV: id, bytes in Redis, uploads at once, files and bytes at most, lease in ms.
 * Returns 'ok'; 'uploads', 'files' or 'bytes' for the limit that is reached. Then nothing was written.
 */
const reserve = defineScript(`
local files, uploads, room = unpack(KEYS)
local id, bytes, uploadsMax, filesMax, bytesMax, leaseMs = unpack(ARGV)
${FILE_ROOM_LUA}
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
for _, lost in ipairs(redis.call('ZRANGEBYSCORE', uploads, 0, nowMs)) do
  setFileRoom(room, 'batch', lost, 0)
  redis.call('ZREM', uploads, lost)
end
if not redis.call('ZSCORE', uploads, id) then
  local open = redis.call('ZCARD', uploads)
  if open >= tonumber(uploadsMax) then return 'uploads' end
  if redis.call('HLEN', files) + open >= tonumber(filesMax) then return 'files' end
end
local extra = bytes - (redis.call('HGET', room, id) or 0)
if extra > 0 and (redis.call('HGET', room, 'batch') or 0) + extra > tonumber(bytesMax) then return 'bytes' end
setFileRoom(room, 'batch', id, tonumber(bytes))
redis.call('ZADD', uploads, nowMs + leaseMs, id)
return 'ok'
`);

/**
 * Appends to the content of an open upload in Redis, and renews its lease. The content expires with the lease.
 * A client that lost its connection before the reply sends the same again: it is not appended twice.
 *
 * KEYS: content, uploads. ARGV: id, bytes before these, text, lease in ms. Returns 1, or 0 if the content before is lost.
 */
const append = defineScript(`
local content, uploads = unpack(KEYS)
local id, offset, text, leaseMs = unpack(ARGV)
local length = redis.call('STRLEN', content)
if length == offset + #text and length > 0 then return 1 end
if length ~= tonumber(offset) then return 0 end
redis.call('APPEND', content, text)
redis.call('PEXPIRE', content, leaseMs)
local time = redis.call('TIME')
redis.call('ZADD', uploads, 'XX', time[1] * 1000 + math.floor(time[2] / 1000) + leaseMs, id)
return 1
`);

/**
 * Saves the record of a file whose content is complete. Safe to repeat.
 *
 * KEYS: files, uploads, room, content.
 * ARGV: id, record (JSON), purpose, bytes in Redis (0 for a file in the bucket), when the file expires (Unix ms).
 * Returns 1, or 0 if the upload's lease has ended or its content is lost.
 */
const save = defineScript(`
local files, uploads, room, content = unpack(KEYS)
local id, record, purpose, bytes, expiresAtMs = unpack(ARGV)
${FILE_ROOM_LUA}
if redis.call('HGET', files, id) == record then return 1 end
if purpose == 'batch' and not redis.call('ZSCORE', uploads, id) then return 0 end
if bytes ~= '0' and redis.call('STRLEN', content) ~= tonumber(bytes) then return 0 end
redis.call('HSET', files, id, record)
redis.call('ZREM', uploads, id)
setFileRoom(room, purpose, id, tonumber(bytes))
if bytes ~= '0' then redis.call('PEXPIREAT', content, expiresAtMs) end
return 1
`);

/** Removes a file or an open upload with its content in Redis. KEYS: as save. ARGV: id, purpose. */
const remove = defineScript(`
local files, uploads, room, content = unpack(KEYS)
local id, purpose = unpack(ARGV)
${FILE_ROOM_LUA}
redis.call('DEL', content)
redis.call('HDEL', files, id)
redis.call('ZREM', uploads, id)
setFileRoom(room, purpose, id, 0)
return 1
`);

const FULL_MESSAGES = {
  files: `A tenant may have at most ${LIMITS.filesPerTenantMax} files; delete some first`,
  bytes: `A tenant's uploaded files may have at most ${LIMITS.filesInRedisBytesMax} bytes together on a server without a bucket, and its small files with one; delete some first`,
} as const;

export type Reservation = "ok" | "uploads" | keyof typeof FULL_MESSAGES;

const allKeys = (tenant: string, id: string) => [
  filesKey(tenant),
  fileUploadsKey(tenant),
  fileRoomKey(tenant),
  contentKey(id),
];

/** @param bytes the upload's bytes in Redis, so far or in future */
export async function reserveRoom(
  redis: RedisClient,
  tenant: string,
  id: string,
  bytes: number,
): Promise<Reservation> {
  const { uploadsPerTenantMax, filesPerTenantMax, filesInRedisBytesMax } = LIMITS;
  const keys = allKeys(tenant, id).slice(0, 3);
  const args = [id, bytes, uploadsPerTenantMax, filesPerTenantMax, filesInRedisBytesMax, LEASE_MS];
  return (await reserve(redis, keys, args)) as Reservation;
}

/** The error for an upload without a reservation. */
export function reservationError(reservation: Exclude<Reservation, "ok">): AppError {
  if (reservation !== "uploads") {
    return new AppError("invalid_request", FULL_MESSAGES[reservation], { param: "file" });
  }
  const message = `A tenant may upload at most ${LIMITS.uploadsPerTenantMax} files at once`;
  return new AppError("rate_limit_exceeded", message, { retryAfterMs: BUSY_RETRY_MS });
}

/** Appends text to an upload's content in Redis. @throws AppError storage_unavailable if the content before is lost */
export async function appendContent(
  redis: RedisClient,
  tenant: string,
  id: string,
  offset: number,
  text: string,
): Promise<void> {
  const keys = [contentKey(id), fileUploadsKey(tenant)];
  if ((await append(redis, keys, [id, offset, text, LEASE_MS])) !== 1) throw uploadLost();
}

/**
 * Saves a file's record (JSON).
 * @param bytes of its content in Redis
 * @throws AppError storage_unavailable if its content or its reservation is lost
 */
export async function saveRecord(
  redis: RedisClient,
  tenant: string,
  file: { readonly id: string; readonly purpose: FilePurpose; readonly expiresAtMs: number },
  record: string,
  bytes: number,
): Promise<void> {
  const args = [file.id, record, file.purpose, bytes, file.expiresAtMs];
  if ((await save(redis, allKeys(tenant, file.id), args)) !== 1) throw uploadLost();
}

/** Removes a file or an open upload, and its content in Redis. Idempotent. */
export async function removeFile(
  redis: RedisClient,
  tenant: string,
  id: string,
  purpose: FilePurpose,
): Promise<void> {
  await remove(redis, allKeys(tenant, id), [id, purpose]);
}

function uploadLost(): AppError {
  return new AppError("storage_unavailable", "The upload was interrupted; send the file again");
}
