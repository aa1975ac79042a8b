/**
 * The bytes of a tenant's ended jobs. Redis reports no expiry, so they are counted by the time at which they expire, in buckets: the
 * count of a bucket ends with its time. A sum costs at most 40 fields, no matter how many jobs there are.
 */
import { STORED_BYTES_PREFIX } from "../redis/keys.ts";

/** A time to live is divided into this many buckets. So bytes count for up to 4% longer than they are stored. */
const BUCKETS = 24;
const BUCKET_MIN_MS = 60_000;

/**
 * Lua functions. `record` is the key of a job's hash, or of what several jobs share; it keeps what was counted for it, so that a
 * deletion gives it back.
 */
export const STORED_BYTES_LUA = `
local function countStored(record, tenant, bytes, nowMs, ttlMs)
  local counts = '${STORED_BYTES_PREFIX}' .. tenant
  for _, untilMs in ipairs(redis.call('HKEYS', counts)) do
    if tonumber(untilMs) <= nowMs then redis.call('HDEL', counts, untilMs) end
  end
  local bucketMs = math.max(${BUCKET_MIN_MS}, math.ceil(ttlMs / ${BUCKETS}))
  local untilMs = math.ceil((nowMs + ttlMs) / bucketMs) * bucketMs
  local field = string.format('%.0f', untilMs)
  redis.call('HINCRBY', counts, field, bytes)
  redis.call('HSET', record, 'storedBytes', bytes, 'storedUntilMs', field)
  local keptMs = redis.call('PTTL', counts)
  redis.call('PEXPIRE', counts, math.max(keptMs, untilMs - nowMs))
end
local function uncountStored(record, tenant)
  local bytes, untilMs = unpack(redis.call('HMGET', record, 'storedBytes', 'storedUntilMs'), 1, 2)
  local counts = '${STORED_BYTES_PREFIX}' .. tenant
  if not bytes or redis.call('HEXISTS', counts, untilMs) == 0 then return end
  if redis.call('HINCRBY', counts, untilMs, -bytes) <= 0 then redis.call('HDEL', counts, untilMs) end
end
-- Milliseconds until the tenant's ended jobs have at most this many bytes, if no other job ends; 0 for now, -1 for never.
local function untilStoredAtMost(tenant, bytesMax, nowMs)
  if bytesMax < 0 then return -1 end
  local fields = redis.call('HGETALL', '${STORED_BYTES_PREFIX}' .. tenant)
  local sum, buckets = 0, {}
  for i = 1, #fields, 2 do
    local untilMs, bytes = tonumber(fields[i]), tonumber(fields[i + 1])
    if untilMs > nowMs then
      sum = sum + bytes
      buckets[#buckets + 1] = {untilMs, bytes}
    end
  end
  table.sort(buckets, function(a, b) return a[1] < b[1] end)
  local waitMs = 0
  for _, bucket in ipairs(buckets) do
    if sum <= bytesMax then break end
    sum, waitMs = sum - bucket[2], bucket[1] - nowMs
  end
  return waitMs
end
`;
