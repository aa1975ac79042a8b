/**
 * The Lua scripts through which a batch changes. Each step says where it found the batch, and does nothing if the batch has
 * gone on since: a step that is made twice, by whichever worker, is made once.
 *
 * KEYS[1] = batch hash, KEYS[2] = its open lines, KEYS[3] = content of the output file, KEYS[4] = that of the error file.
 */
import { OPEN_BATCHES_KEY } from "./redis-keys.ts";
import { REPETITION } from "./repetition-script.ts";

/**
 * KEYS[2] = the tenant's batches, KEYS[3] = its open ones.
 * ARGV: id, nowMs, open at most, listed at most, the Repetition or false (JSON), field, value, ...
 * Returns {'created'}; {'existing', id}, {'conflict'} or {'full'} if nothing was written.
 */
export const CREATE_BATCH = `${REPETITION}
if redis.call('EXISTS', KEYS[1]) == 1 then return {'created'} end
local repetition = cjson.decode(ARGV[5])
local before = repeated(repetition)
if before then return before end
if redis.call('SCARD', KEYS[3]) >= tonumber(ARGV[3]) then return {'full'} end
remember(repetition, ARGV[1])
redis.call('HSET', KEYS[1], unpack(ARGV, 6))
redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[4]) - 1)
redis.call('SADD', KEYS[3], ARGV[1])
redis.call('SADD', '${OPEN_BATCHES_KEY}', ARGV[1])
return {'created'}
`;

/** From one status to another. ARGV: the statuses that it may leave (JSON), field, value, ... Returns whether it did. */
export const MOVE_BATCH = `
local status = redis.call('HGET', KEYS[1], 'status')
for _, from in ipairs(cjson.decode(ARGV[1])) do
  if status == from then
    redis.call('HSET', KEYS[1], unpack(ARGV, 2))
    return 1
  end
end
return 0
`;

/**
 * Reads on by one line. ARGV: offset (bytes) at which the line begins, and the next one; its number; 'open' for one that
 * became jobs, 'failed' for one that did not, 'blank'; what is kept of an open one, or the result of a failed one.
 * Returns 0 if the batch reads elsewhere.
 */
export const ADVANCE_BATCH = `
if redis.call('HGET', KEYS[1], 'offset') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'offset', ARGV[2])
redis.call('HINCRBY', KEYS[1], 'line', 1)
if ARGV[4] == 'open' then redis.call('HSET', KEYS[2], ARGV[3], ARGV[5]) end
if ARGV[4] == 'failed' then
  redis.call('APPEND', KEYS[4], ARGV[5])
  redis.call('HINCRBY', KEYS[1], 'failed', 1)
end
return 1
`;

/**
 * Closes a line with its result. ARGV: number, 'completed' or 'failed', result, tokens of prompts, of them cached, generated.
 * Returns 0 if it was closed before.
 */
export const CLOSE_LINE = `
if redis.call('HDEL', KEYS[2], ARGV[1]) == 0 then return 0 end
redis.call('APPEND', ARGV[2] == 'completed' and KEYS[3] or KEYS[4], ARGV[3])
redis.call('HINCRBY', KEYS[1], ARGV[2], 1)
redis.call('HINCRBY', KEYS[1], 'inputTokens', ARGV[4])
redis.call('HINCRBY', KEYS[1], 'cachedTokens', ARGV[5])
redis.call('HINCRBY', KEYS[1], 'outputTokens', ARGV[6])
return 1
`;

/**
 * Notes that the beginning of a file's content is in the bucket now. KEYS[2] = content.
 * ARGV: field of the parts, the parts before (JSON), the parts now, bytes of the new one. Returns 0 if it was noted before.
 */
export const FLUSH_BATCH = `
if (redis.call('HGET', KEYS[1], ARGV[1]) or '[]') ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('SET', KEYS[2], redis.call('GETRANGE', KEYS[2], ARGV[4], -1))
return 1
`;

/**
 * Ends the batch. KEYS[3] = names of lines, KEYS[4] = the tenant's open batches.
 * ARGV: id, status, nowMs, retention in ms. Returns 0 if it had ended.
 */
export const END_BATCH = `
if redis.call('SREM', '${OPEN_BATCHES_KEY}', ARGV[1]) == 0 then return 0 end
redis.call('SREM', KEYS[4], ARGV[1])
redis.call('HSET', KEYS[1], 'status', ARGV[2], 'endedAtMs', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
redis.call('DEL', KEYS[2], KEYS[3])
return 1
`;
