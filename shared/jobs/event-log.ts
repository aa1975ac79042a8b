/** Lua that the job scripts share: the keys of a job, logging an event, and writing when Redis is full. */
import { DUE_KEY, eventChannel, jobKey, logKey, textKey } from "../redis/keys.ts";

/** The names of a job's hash, log and channel. A channel is no key, but it is passed to scripts with the keys. */
export const jobKeys = (jobId: string) => [jobKey(jobId), logKey(jobId), eventChannel(jobId)];

/** KEYS[1] to KEYS[5] of every script that changes one job; JOB_LOCALS_LUA are their names in Lua. */
export const jobScriptKeys = (jobId: string) => [...jobKeys(jobId), DUE_KEY, textKey(jobId)];
export const JOB_LOCALS_LUA = `
local job, log, channel, due, textSoFar = unpack(KEYS)
`;

/**
 * Lets a script write although Redis has no memory left. Redis refuses the first write of a script if that write could need
 * memory, and allows the others. This first write removes nothing and needs no memory. With it, accepted jobs run, end and
 * make room, while new ones are refused. It needs the local variable `due`.
 */
export const WRITE_WHEN_FULL_LUA = `
redis.call('ZREM', due, '')
`;

/**
 * Lua functions: `logEvent` logs an event under the next sequence number and publishes it, `logEntry` does so under a number that the
 * caller has stored; `isEnded` checks a job's state.
 */
export const EVENT_LOG_LUA = `
local function logEntry(log, channel, seq, type, data)
  redis.call('XADD', log, seq .. '-0', 'type', type, 'data', data)
  redis.call('PUBLISH', channel, seq .. '\\n' .. type .. '\\n' .. data)
end
local function logEvent(job, log, channel, type, data)
  logEntry(log, channel, redis.call('HINCRBY', job, 'seq', 1), type, data)
end
local function isEnded(state)
  return state == 'succeeded' or state == 'failed' or state == 'cancelled' or state == 'expired'
end
`;
