/** The Lua scripts that look up, create, rotate and revoke API keys. */
import { API_KEY_PREFIX, KEY_HASH_PREFIX, TENANT_KEYS_PREFIX } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";

/**
 * The record of an API key, by the key's hash. The entry of the hash holds the key's id, so only the script knows the name of
 * the record, which is not declared.
 *
 * KEYS: entry of the hash.
 * Returns field, value, ... of the record; nothing if the key is unknown.
 */
export const authenticate = defineScript(`
local id = redis.call('GET', KEYS[1])
if not id then return {} end
return redis.call('HGETALL', '${API_KEY_PREFIX}' .. id)
`);

/**
 * KEYS: record, and the entry of the hash if a secret is asked for.
 * Returns {scopes (JSON), ms until the secret stops to work, -1 for never}; nothing if there is no such key or secret.
 */
export const readStanding = defineScript(`
local scopes = redis.call('HGET', KEYS[1], 'scopes')
local endsInMs = KEYS[2] and redis.call('PTTL', KEYS[2]) or -1
if not scopes or endsInMs == -2 then return {} end
return {scopes, endsInMs}
`);

/**
 * Saves a new key, unless the tenant has as many as allowed. The entry of its hash makes it work.
 *
 * KEYS: record, entry of the hash, ids of the tenant's keys, ids of all keys.
 * ARGV: id, keys of a tenant at most, then field, value, ... of the record.
 * Returns 1; 0 if nothing was written.
 */
export const createKey = defineScript(`
local record, entry, tenantKeys, allKeys = unpack(KEYS)
local id, keysMax = unpack(ARGV)
if redis.call('EXISTS', record) == 1 then return 1 end
if redis.call('SCARD', tenantKeys) >= tonumber(keysMax) then return 0 end
redis.call('HSET', record, unpack(ARGV, 3))
redis.call('SADD', tenantKeys, id)
redis.call('SADD', allKeys, id)
redis.call('SET', entry, id)
return 1
`);

/**
 * Gives a key a new secret. The old one works until the overlap ends. Both have the same id, so they share its limits.
 * The old hash is in the record, so its entry is not declared.
 *
 * KEYS: record, entry of the new hash, channel of the key. ARGV: id, new hash, overlap in ms.
 * Returns 1, or 0 if there is no such key.
 */
export const rotate = defineScript(`
local record, newEntry, channel = unpack(KEYS)
local id, newHash, overlapMs = unpack(ARGV)
local oldHash = redis.call('HGET', record, 'sha256')
if not oldHash then return 0 end
local oldEntry = '${KEY_HASH_PREFIX}' .. oldHash
if overlapMs == '0' then redis.call('DEL', oldEntry) else redis.call('PEXPIRE', oldEntry, overlapMs) end
redis.call('HSET', record, 'sha256', newHash)
redis.call('SET', newEntry, id)
redis.call('PUBLISH', channel, '')
return 1
`);

/**
 * Deletes a key in one step: it stops to work, and counts no more. The record has its hash and its tenant, so their entries are not
 * declared. An old secret of a rotation finds no record.
 *
 * KEYS: record, ids of all keys, channel of the key. ARGV: id.
 * Returns 1, or 0 if there is no such key.
 */
export const revoke = defineScript(`
local record, allKeys, channel = unpack(KEYS)
local tenant, hash = unpack(redis.call('HMGET', record, 'tenant', 'sha256'), 1, 2)
if not tenant then return 0 end
redis.call('DEL', record, '${KEY_HASH_PREFIX}' .. hash)
redis.call('SREM', allKeys, ARGV[1])
redis.call('SREM', '${TENANT_KEYS_PREFIX}' .. tenant, ARGV[1])
redis.call('PUBLISH', channel, '')
return 1
`);
