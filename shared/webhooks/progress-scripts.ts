/** The Lua scripts of messages about jobs that have not ended. */
import { defineScript } from "../redis/script.ts";

/** Notes that a job's start was published. KEYS: the job's hash, which may be deleted meanwhile. */
export const markStartPublished = defineScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'startPublished', 1) end
`);

/**
 * Counts a progress message towards the limit of its tenant.
 * KEYS: the tenant's count. ARGV: messages in a window at most, the window in ms. Returns 1, or 0 if there were as many as allowed.
 */
export const takeProgressTurn = defineScript(`
local countMax, windowMs = unpack(ARGV)
local count = redis.call('INCR', KEYS[1])
if count == 1 then redis.call('PEXPIRE', KEYS[1], windowMs) end
return count <= tonumber(countMax) and 1 or 0
`);
