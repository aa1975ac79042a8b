/** Replaces the metadata of a job, in whichever state it is, and its places in the index. */
import { EVENT_LOG_LUA } from "./event-log.ts";
import { metadataFacets, FACET_BYTES } from "./facets.ts";
import { FACET_SEPARATOR, JOB_INDEX_LUA, jobSetKey } from "./job-index-lua.ts";
import type { JobRecord } from "./record.ts";
import { STORED_BYTES_LUA } from "./stored-bytes.ts";
import { LIMITS } from "../api/limits.ts";
import { flowOf } from "../queue/fair-queue-lua.ts";
import { LEASE_LUA } from "../queue/lease-lua.ts";
import type { RedisClient } from "../redis/client.ts";
import { JOB_EXPIRY_KEY, jobKey, REQUEST_BYTES_KEY, STORED_BYTES_PREFIX } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";

/**
 * KEYS: job hash, the tenant's stored bytes, the sets of its new facets. ARGV: metadata (JSON), its facets in lines, bytes of a facet, bytes at most of the flow's requests and of all
 * that the tenant stores, then the tenant's flows.
 * Returns 1; 0 if there would be more bytes than allowed; -2 no such job.
 */
const replaceMetadata = defineScript(`
local job = KEYS[1]
local metadata, newFacets, facetBytes, requestBytesMax, storedBytesMax = unpack(ARGV)
${EVENT_LOG_LUA}${LEASE_LUA}${JOB_INDEX_LUA}${STORED_BYTES_LUA}
local id, state, before, flow, bytes, storedBytes, storedUntilMs =
  unpack(redis.call('HMGET', job, 'id', 'state', 'metadata', 'flow', 'bytes', 'storedBytes', 'storedUntilMs'), 1, 7)
if not id then return -2 end
local tenant, facets, createdAtMs = indexed(job, id)
local kept, old, new = {}, {}, {}
for facet in string.gmatch(facets, '[^\\n]+') do
  if string.sub(facet, 1, 9) == 'metadata:' then old[#old + 1] = facet else kept[#kept + 1] = facet end
end
for facet in string.gmatch(newFacets, '[^\\n]+') do
  new[#new + 1] = facet
  kept[#kept + 1] = facet
end
local more = #metadata - #before + (bytes and 0 or facetBytes * (#new - #old))
if more > 0 then
  local open, nowMs = 0, redisNowMs()
  for i = 6, #ARGV do open = open + (redis.call('HGET', '${REQUEST_BYTES_KEY}', ARGV[i]) or 0) end
  local held = tonumber(redis.call('HGET', '${REQUEST_BYTES_KEY}', flow) or '0')
  if bytes and held + more > tonumber(requestBytesMax) then return 0 end
  if untilStoredAtMost(tenant, storedBytesMax - open - more, nowMs) ~= 0 then return 0 end
end
if bytes then
  redis.call('HINCRBY', job, 'bytes', more)
  redis.call('HINCRBY', '${REQUEST_BYTES_KEY}', flow, more)
elseif storedBytes then
  local counts = '${STORED_BYTES_PREFIX}' .. tenant
  redis.call('HINCRBY', job, 'storedBytes', more)
  if redis.call('HEXISTS', counts, storedUntilMs) == 1 then redis.call('HINCRBY', counts, storedUntilMs, more) end
end
for _, facet in ipairs(old) do redis.call('ZREM', jobSet(tenant, facet), id) end
for _, facet in ipairs(new) do addToSet(tenant, facet, createdAtMs, id) end
local facetsAfter = table.concat(kept, '\\n')
if isEnded(state) then
  local entry = expiryEntry(tenant, id, state, facets)
  local expiresMs = redis.call('ZSCORE', '${JOB_EXPIRY_KEY}', entry)
  redis.call('ZREM', '${JOB_EXPIRY_KEY}', entry)
  if expiresMs then redis.call('ZADD', '${JOB_EXPIRY_KEY}', expiresMs, expiryEntry(tenant, id, state, facetsAfter)) end
end
redis.call('HSET', job, 'metadata', metadata, 'facets', facetsAfter)
return 1
`);

/**
 * @param storedBytesMax bytes of all that the tenant stores, at most
 * @returns "full" if the tenant would store more bytes than allowed
 */
export async function setMetadata(
  redis: RedisClient,
  { id, tenant }: Pick<JobRecord, "id" | "tenant">,
  metadata: Readonly<Record<string, string>>,
  storedBytesMax: number,
): Promise<"set" | "full" | "missing"> {
  const facets = await metadataFacets(metadata);
  const bounds = [FACET_BYTES, LIMITS.requestBytesMax, storedBytesMax];
  const flows = [flowOf(tenant, false), flowOf(tenant, true)];
  const sets = facets.map((facet) => jobSetKey(tenant, facet));
  const keys = [jobKey(id), STORED_BYTES_PREFIX + tenant, ...sets];
  const args = [JSON.stringify(metadata), facets.join(FACET_SEPARATOR), ...bounds, ...flows];
  const reply = await replaceMetadata(redis, keys, args);
  return reply === 1 ? "set" : reply === 0 ? "full" : "missing";
}
