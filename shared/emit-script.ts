/** The part that all scripts share: logging an event, and knowing an ended job. */

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
