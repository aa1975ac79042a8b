/** The Lua scripts that change webhook deliveries, endpoints, inboxes and signing keys. */
import { ATTEMPTS_PREFIX, DELIVERY_PREFIX } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";

/**
 * Creates a delivery, unless it exists. A delivery that is no longer among the newest is deleted, unless it is pending.
 * Only the script knows that delivery, so its keys are not declared.
 *
 * KEYS: delivery, the tenant's deliveries (one of its two lists).
 * ARGV: tenant, id, nowMs, retention in ms, listed deliveries at most, then field, value, ... of the delivery.
 * Returns {state, round} of the new or the existing delivery.
 */
export const createDelivery = defineScript(`
local delivery, deliveries = unpack(KEYS)
local tenant, id, nowMs, retentionMs, listedMax = unpack(ARGV)
if redis.call('EXISTS', delivery) == 0 then
  redis.call('HSET', delivery, unpack(ARGV, 6))
  redis.call('PEXPIRE', delivery, retentionMs)
  redis.call('ZADD', deliveries, nowMs, id)
  redis.call('PEXPIRE', deliveries, retentionMs)
  for _, old in ipairs(redis.call('ZRANGE', deliveries, 0, -tonumber(listedMax) - 1)) do
    redis.call('ZREM', deliveries, old)
    local oldDelivery = '${DELIVERY_PREFIX}' .. tenant .. ':' .. old
    if redis.call('HGET', oldDelivery, 'state') ~= 'pending' then
      redis.call('DEL', oldDelivery, '${ATTEMPTS_PREFIX}' .. tenant .. ':' .. old)
    end
  end
end
return redis.call('HMGET', delivery, 'state', 'round')
`);

/**
 * Records an attempt and the state after it. An attempt of an earlier round than the current one is recorded, but changes no
 * state. A delivery that has ended and is not listed any more is deleted.
 *
 * KEYS: delivery, its attempts, the tenant's two lists of deliveries.
 * ARGV: id, round, attempt (JSON), state, nextAtMs or '', attempts kept at most.
 */
export const recordAttempt = defineScript(`
local delivery, attempts, deliveries, beforeEnd = unpack(KEYS)
local id, round, attempt, state, nextAtMs, keptMax = unpack(ARGV)
local ttlMs = redis.call('PTTL', delivery)
if ttlMs < 0 then return end
-- A client that lost its connection before the reply sends the script again.
if redis.call('LINDEX', attempts, -1) ~= attempt then
  redis.call('HINCRBY', delivery, 'attempts', 1)
  redis.call('RPUSH', attempts, attempt)
  redis.call('LTRIM', attempts, -tonumber(keptMax), -1)
  redis.call('PEXPIRE', attempts, ttlMs)
end
if redis.call('HGET', delivery, 'round') ~= round then return end
redis.call('HSET', delivery, 'state', state, 'nextAtMs', nextAtMs)
-- A release before has all deliveries in one list.
local isListed = redis.call('ZSCORE', deliveries, id) or redis.call('ZSCORE', beforeEnd, id)
if state ~= 'pending' and not isListed then redis.call('DEL', delivery, attempts) end
`);

/**
 * Begins a new round of a delivery.
 *
 * KEYS: delivery, its attempts. ARGV: nowMs, retention in ms. Returns the new round, or 0 if there is no such delivery.
 */
export const replayDelivery = defineScript(`
local delivery, attempts = unpack(KEYS)
local nowMs, retentionMs = unpack(ARGV)
if redis.call('EXISTS', delivery) == 0 then return 0 end
redis.call('HSET', delivery, 'state', 'pending', 'nextAtMs', nowMs)
redis.call('PEXPIRE', delivery, retentionMs)
redis.call('PEXPIRE', attempts, retentionMs)
return redis.call('HINCRBY', delivery, 'round', 1)
`);

/**
 * Adds a delivery to those that wait for a slot. KEYS: the tenant's waiting deliveries. ARGV: BullMQ id, retention in ms.
 */
export const waitForSlot = defineScript(`
local waiting, id, retentionMs = KEYS[1], unpack(ARGV)
redis.call('ZADD', waiting, 'NX', redis.call('TIME')[1], id)
redis.call('PEXPIRE', waiting, retentionMs)
`);

/** KEYS of all scripts for endpoints: the tenant's endpoints, their health. ARGV[1]: id of the endpoint. */
const ENDPOINT_LUA = `
local endpoints, health = unpack(KEYS)
local id = ARGV[1]
local disabled, failing = id .. ':disabled', id .. ':failing'
`;

/**
 * ARGV: id, record (JSON), endpoints at most, why the endpoint is disabled (JSON) or ''.
 * Returns 1, or 0 if the tenant has as many endpoints as allowed.
 */
export const createEndpoint = defineScript(`${ENDPOINT_LUA}
local _, record, countMax, disabledReason = unpack(ARGV)
-- A client that lost its connection before the reply sends the script again.
if redis.call('HEXISTS', endpoints, id) == 1 then return 1 end
if redis.call('HLEN', endpoints) >= tonumber(countMax) then return 0 end
if disabledReason ~= '' then redis.call('HSET', health, disabled, disabledReason) end
return redis.call('HSET', endpoints, id, record)
`);

/** ARGV: id, record (JSON). Returns 1, or 0 if there is no such endpoint. */
export const updateEndpoint = defineScript(`${ENDPOINT_LUA}
if redis.call('HEXISTS', endpoints, id) == 0 then return 0 end
redis.call('HSET', endpoints, id, ARGV[2])
return 1
`);

/** ARGV: id. Returns 1, or 0 if there was no such endpoint. */
export const deleteEndpoint = defineScript(`${ENDPOINT_LUA}
redis.call('HDEL', health, disabled, failing)
return redis.call('HDEL', endpoints, id)
`);

/** ARGV: id, reason (JSON). An endpoint that is disabled already keeps its reason. */
export const disableEndpoint = defineScript(`${ENDPOINT_LUA}
if redis.call('HEXISTS', endpoints, id) == 0 then return 0 end
return redis.call('HSETNX', health, disabled, ARGV[2])
`);

/** ARGV: id. Failures before are forgotten. */
export const enableEndpoint = defineScript(`${ENDPOINT_LUA}
return redis.call('HDEL', health, disabled, failing)
`);

/**
 * Records a failed attempt. The endpoint is disabled when all attempts have failed for too long.
 * ARGV: id, nowMs, ms of failing at most, reason (JSON). Returns 1 if the endpoint was disabled now, else 0.
 */
export const recordEndpointFailure = defineScript(`${ENDPOINT_LUA}
local _, nowMs, failingMaxMs, reason = unpack(ARGV)
if redis.call('HEXISTS', endpoints, id) == 0 then return 0 end
redis.call('HSETNX', health, failing, nowMs)
if nowMs - redis.call('HGET', health, failing) < tonumber(failingMaxMs) then return 0 end
return redis.call('HSETNX', health, disabled, reason)
`);

/**
 * Appends a message to an inbox, once.
 *
 * KEYS: inbox, its last sequence number, its messages' numbers, channel. ARGV: retention in ms, messages kept at most, numbers
 * kept at most, message id, type, body.
 */
export const appendToInbox = defineScript(`
local inbox, lastSeq, numbers, channel = unpack(KEYS)
local retentionMs, keptMax, numbersMax, id, type, body = unpack(ARGV)
if redis.call('ZSCORE', numbers, id) then return end
local seq = redis.call('INCR', lastSeq)
redis.call('ZADD', numbers, seq, id)
redis.call('ZREMRANGEBYRANK', numbers, 0, -tonumber(numbersMax) - 1)
redis.call('PEXPIRE', numbers, retentionMs)
redis.call('XADD', inbox, 'MAXLEN', '~', keptMax, seq .. '-0', 'id', id, 'type', type, 'body', body)
redis.call('PEXPIRE', inbox, retentionMs)
redis.call('PUBLISH', channel, seq)
`);

/** KEYS: the tenant's signing keys. ARGV: the new key (JSON), Unix ms until which the current one also signs. */
export const rotateSigningKey = defineScript(`
local keys, newKey, untilMs = KEYS[1], unpack(ARGV)
local current = redis.call('HGET', keys, 'current')
-- A client that lost its connection before the reply sends the script again.
if current == newKey then return end
if current then redis.call('HSET', keys, 'previous', current, 'previousUntilMs', untilMs) end
redis.call('HSET', keys, 'current', newKey)
`);
