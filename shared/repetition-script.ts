/** The part of the scripts that make what a request asks for, by which it is made once (admission.ts, Repetition). */

/** Names under which requests are remembered are not among the KEYS; they share the hash tag. */
export const REPETITION = `
local function repeated(repetition)
  if not repetition or repetition.isNew then return nil end
  local known = redis.call('HMGET', repetition.name, 'fingerprint', 'job')
  if known[1] == repetition.fingerprint then return {'existing', known[2]} end
  if known[1] then return {'conflict'} end
end
local function remember(repetition, id)
  if not repetition then return end
  redis.call('HSET', repetition.name, 'fingerprint', repetition.fingerprint, 'job', id)
  redis.call('PEXPIRE', repetition.name, repetition.ttlMs)
end
`;
