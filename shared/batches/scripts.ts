/**
 * The Lua scripts that change a batch. The caller of a script passes the state in which it read the batch. If another worker
 * has changed the batch since, the script changes nothing.
 */
import { FILE_ROOM_LUA } from "../files/room.ts";
import { IDEMPOTENCY_LUA } from "../redis/idempotency.ts";
import { defineScript } from "../redis/script.ts";

/**
 * Appends a result line to a result file and counts its bytes. It returns false if the tenant's result files would be longer
 * than allowed. If the string itself is full (512 MB in Redis), the script ends there with an error.
 */
const APPEND_RESULT_LUA = `
${FILE_ROOM_LUA}
local function appendResult(file, room, fileId, bytesMax, line)
  if (redis.call('HGET', room, 'batch_output') or 0) + #line > tonumber(bytesMax) then return false end
  setFileRoom(room, 'batch_output', fileId, redis.call('APPEND', file, line))
  return true
end
`;

/**
 * Creates a batch, unless the tenant has too many open ones or the same request created one before.
 *
 * KEYS: batch, the tenant's batches, its open batches, all open batches; with an idempotency claim, its key as the last one.
 * ARGV: id, ms until its deadline, open batches at most, listed batches at most, idempotency claim (claimJson), then field,
 * value, ...
 * Returns {'created'}; {'existing', id}, {'conflict'} or {'full'} if nothing was written.
 */
export const createBatch = defineScript(`
local batch, batches, openBatches, allOpenBatches, claimKey = unpack(KEYS)
local id, deadlineInMs, openMax, listedMax = unpack(ARGV)
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
${IDEMPOTENCY_LUA}
if redis.call('EXISTS', batch) == 1 then return {'created'} end
local claim = cjson.decode(ARGV[5])
local known = findClaimed(claimKey, claim)
if known then return known end
if redis.call('SCARD', openBatches) >= tonumber(openMax) then return {'full'} end
saveClaim(claimKey, claim, id)
redis.call('HSET', batch, 'createdAtMs', nowMs, 'deadlineMs', nowMs + deadlineInMs, unpack(ARGV, 6))
redis.call('ZADD', batches, nowMs, id)
redis.call('ZREMRANGEBYRANK', batches, 0, -tonumber(listedMax) - 1)
redis.call('SADD', openBatches, id)
redis.call('SADD', allOpenBatches, id)
return {'created'}
`);

/**
 * Changes the status.
 *
 * KEYS: batch. ARGV: the statuses that the batch may leave (JSON), the field that gets the time, then field, value, ...
 * Returns 1, or 0 if the batch has another status.
 */
export const changeStatus = defineScript(`
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local status = redis.call('HGET', KEYS[1], 'status')
for _, from in ipairs(cjson.decode(ARGV[1])) do
  if status == from then
    redis.call('HSET', KEYS[1], ARGV[2], nowMs, unpack(ARGV, 3))
    return 1
  end
end
return 0
`);

/**
 * Moves the read position to the next line of the input file. The result of a failed line is written first: if it does not
 * fit, the position stays.
 *
 * KEYS: batch, its open lines, content of the error file, room of the tenant's files.
 * ARGV: offset in bytes of this line, offset of the next one, line number; 'open' for a line that became jobs, 'failed' for
 * one that was refused, 'blank'; the OpenLine (JSON) or the result of a failed line; id of the error file, bytes of the
 * tenant's result files at most.
 * Returns 1; 0 if the batch is at another line; -1 if there is no room for the result.
 */
export const advanceBatch = defineScript(`
local batch, openLines, errorFile, room = unpack(KEYS)
local offset, nextOffset, line, kind, value, fileId, bytesMax = unpack(ARGV)
${APPEND_RESULT_LUA}
if redis.call('HGET', batch, 'offset') ~= offset then return 0 end
if kind == 'failed' then
  if not appendResult(errorFile, room, fileId, bytesMax, value) then return -1 end
  redis.call('HINCRBY', batch, 'failed', 1)
end
if kind == 'open' then redis.call('HSET', openLines, line, value) end
redis.call('HSET', batch, 'offset', nextOffset)
redis.call('HINCRBY', batch, 'line', 1)
return 1
`);

/**
 * Closes an open line with its result. The result is written first: if it does not fit, the line stays open, so that the
 * result is not lost. HDEL of a field that does not exist changes nothing; as the
 * first write of the script it lets the others through although Redis has no memory left (WRITE_WHEN_FULL_LUA).
 *
 * KEYS: batch, its open lines, content of the file that gets the result, room of the tenant's files.
 * ARGV: line number, 'completed' or 'failed', result, prompt tokens, of these the cached ones, generated tokens, id of the
 * file, bytes of the tenant's result files at most.
 * Returns 1; 0 if the line was closed before; -1 if there is no room for the result.
 */
export const closeLine = defineScript(`
local batch, openLines, resultFile, room = unpack(KEYS)
local line, state, result, inputTokens, cachedTokens, outputTokens, fileId, bytesMax = unpack(ARGV)
${APPEND_RESULT_LUA}
if redis.call('HEXISTS', openLines, line) == 0 then return 0 end
redis.call('HDEL', openLines, '')
if not appendResult(resultFile, room, fileId, bytesMax, result) then return -1 end
redis.call('HDEL', openLines, line)
redis.call('HINCRBY', batch, state, 1)
redis.call('HINCRBY', batch, 'inputTokens', inputTokens)
redis.call('HINCRBY', batch, 'cachedTokens', cachedTokens)
redis.call('HINCRBY', batch, 'outputTokens', outputTokens)
return 1
`);

/**
 * Records that the beginning of a result file is in the bucket now, and removes it from Redis.
 *
 * KEYS: batch, content of the file, room of the tenant's files.
 * ARGV: field of the uploaded parts, parts before (JSON), parts now (JSON), bytes of the new part, id of the file.
 * Returns 1, or 0 if the parts have changed since.
 */
export const recordUploadedPart = defineScript(`
local batch, content, room = unpack(KEYS)
local field, before, now, bytes, fileId = unpack(ARGV)
${FILE_ROOM_LUA}
if (redis.call('HGET', batch, field) or '[]') ~= before then return 0 end
redis.call('HSET', batch, field, now)
redis.call('SET', content, redis.call('GETRANGE', content, bytes, -1))
setFileRoom(room, 'batch_output', fileId, redis.call('STRLEN', content))
return 1
`);

/**
 * Ends the batch.
 *
 * KEYS: batch, its open lines, its custom ids, the tenant's open batches, all open batches.
 * ARGV: id, status, retention in ms.
 * Returns 1, or 0 if the batch had ended.
 */
export const endBatch = defineScript(`
local batch, openLines, customIds, openBatches, allOpenBatches = unpack(KEYS)
local id, status, retentionMs = unpack(ARGV)
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('SREM', allOpenBatches, id) == 0 then return 0 end
redis.call('SREM', openBatches, id)
redis.call('HSET', batch, 'status', status, 'endedAtMs', nowMs)
redis.call('PEXPIRE', batch, retentionMs)
redis.call('DEL', openLines, customIds)
return 1
`);
