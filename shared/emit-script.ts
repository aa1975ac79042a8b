/** The parts that scripts share: logging an event, knowing an ended job, and going on when Redis is full. */
import { DUE_KEY } from "./redis-keys.ts";

/**
 * When its memory is full, Redis refuses the first write of a script if it could take memory; a script that has written is
 * let go on. This writes nothing, and so lets accepted jobs run, end, and make room, while only new ones are refused.
 */
export const EVEN_WHEN_FULL = `redis.call('ZREM', '${DUE_KEY}', '')`;

/**
 * Logs one event under the next sequence number and repeats it on the bell as "seq\ntype\ndata".
 * A job's three keys are the first of the script's, or begin at `at`.
 */
export const EMIT = `
local function emit(type, data, at)
  at = at or 1
  local seq = redis.call('HINCRBY', KEYS[at], 'seq', 1)
  redis.call('XADD', KEYS[at + 1], seq .. '-0', 'type', type, 'data', data)
  redis.call('PUBLISH', KEYS[at + 2], seq .. '\\n' .. type .. '\\n' .. data)
  return seq
end
local function ended(state)
  return state == 'succeeded' or state == 'failed' or state == 'cancelled' or state == 'expired'
end
`;
