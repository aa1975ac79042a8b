/** The Lua scripts through which API keys are looked up and replaced, each in one step. */
import { API_KEY_PREFIX } from "./redis-keys.ts";

/**
 * From a key's hash to its record. KEYS[1] = the hash's entry.
 * Returns the record's fields and values, none if the key is not known.
 */
export const AUTHENTICATE = `
local id = redis.call('GET', KEYS[1])
if not id then return {} end
return redis.call('HGETALL', '${API_KEY_PREFIX}' .. id)
`;

/**
 * Gives a key a new secret; the old one goes on for a while, or ends. Limits belong to the id, so both share them.
 * KEYS[1] = record, KEYS[2] = the new hash's entry. ARGV: id, new hash, overlap in ms, prefix of hashes' entries.
 * Returns 1, or 0 if there is no such key.
 */
export const ROTATE = `
local old = redis.call('HGET', KEYS[1], 'sha256')
if not old then return 0 end
if ARGV[3] == '0' then redis.call('DEL', ARGV[4] .. old)
else redis.call('PEXPIRE', ARGV[4] .. old, ARGV[3]) end
redis.call('HSET', KEYS[1], 'sha256', ARGV[2])
redis.call('SET', KEYS[2], ARGV[1])
return 1
`;
