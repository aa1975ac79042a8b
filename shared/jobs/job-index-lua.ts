/**
 * The index of a tenant's jobs: sorted sets of job ids by the time of submission, one for each facet, so that a page of a list costs
 * O(log n). The scripts that submit, claim, end and delete jobs keep it in the same step.
 *
 * Facets: "all"; "open" for jobs that have not ended; "running"; one for each terminal state; and those that the job was submitted
 * with (facets.ts), which its hash keeps in the field `facets`.
 *
 * Redis reports no expiry. So an ended job has an entry in JOB_EXPIRY_KEY that names its sets, and what has expired leaves them
 * with the next jobs that end, or with the sweeper. Jobs of the release before are indexed when they are claimed or end, by their
 * model but not by their metadata.
 */
import {
  JOB_EXPIRY_KEY,
  JOB_INDEX_PREFIX,
  LIST_PLACE_PREFIX,
  SHARED_PREFIX,
} from "../redis/keys.ts";

/** Separates the facets of a job, and the parts of an entry of JOB_EXPIRY_KEY. */
export const FACET_SEPARATOR = "\n";

/** Expired jobs that leave the index with each job that ends: more than one, so that they become fewer. */
const EXPIRED_PER_END = 2;

/** Milliseconds for which a list still goes on behind a job that has left the index. */
const PLACE_MS = 600_000;

/** A set of the index. */
export const jobSetKey = (tenant: string, facet: string) => `${JOB_INDEX_PREFIX}${tenant}:${facet}`;

/** Lua functions. `job` is the key of a job's hash. Each costs O(log n) for each facet of a job, of which there are at most 20. */
export const JOB_INDEX_LUA = `
local function jobSet(tenant, facet) return '${JOB_INDEX_PREFIX}' .. tenant .. ':' .. facet end
local function addToSet(tenant, facet, createdAtMs, id) redis.call('ZADD', jobSet(tenant, facet), createdAtMs, id) end
local function addToSets(tenant, facets, createdAtMs, id)
  for facet in string.gmatch(facets, '[^\\n]+') do addToSet(tenant, facet, createdAtMs, id) end
end
local function indexSubmitted(tenant, facets, createdAtMs, id)
  addToSet(tenant, 'all', createdAtMs, id)
  addToSet(tenant, 'open', createdAtMs, id)
  addToSets(tenant, facets, createdAtMs, id)
end
-- Returns tenant, facets and time of submission. A job of the release before gets its facets.
local function indexed(job, id)
  local tenant, facets, createdAtMs =
    unpack(redis.call('HMGET', job, 'tenant', 'facets', 'createdAtMs'), 1, 3)
  if facets then return tenant, facets, createdAtMs end
  local shared = redis.call('HGET', job, 'shared')
  local generation = shared and redis.call('HGET', '${SHARED_PREFIX}' .. shared, 'generation') or
    redis.call('HGET', job, 'generation')
  local model = string.match(generation or '', '"model":"([^"\\\\\\n]+)"') or ''
  facets = 'model:' .. model
  redis.call('HSET', job, 'facets', facets, 'model', model)
  indexSubmitted(tenant, facets, createdAtMs, id)
  return tenant, facets, createdAtMs
end
local function indexRunning(job, id)
  local tenant, _, createdAtMs = indexed(job, id)
  addToSet(tenant, 'running', createdAtMs, id)
end
local function expiryEntry(tenant, id, state, facets)
  return table.concat({tenant, id, 'all', state, facets}, '\\n')
end
-- So that a client that deletes the jobs of a page, or whose last job expires, can read the next page. It needs memory, which Redis
-- allows only to a script that has written already.
local function keepPlace(tenant, id, createdAtMs)
  redis.call('SET', '${LIST_PLACE_PREFIX}' .. tenant .. ':' .. id, createdAtMs, 'PX', ${PLACE_MS})
end
local function removeEntry(entry)
  local tenant, id, facets = string.match(entry, '^([^\\n]*)\\n([^\\n]*)\\n(.*)$')
  local createdAtMs = redis.call('ZSCORE', jobSet(tenant, 'all'), id)
  redis.call('ZREM', '${JOB_EXPIRY_KEY}', entry)
  for facet in string.gmatch(facets, '[^\\n]+') do redis.call('ZREM', jobSet(tenant, facet), id) end
  if createdAtMs then keepPlace(tenant, id, createdAtMs) end
end
-- Returns how many there were, at most countMax.
local function removeExpired(nowMs, countMax)
  local entries = redis.call('ZRANGEBYSCORE', '${JOB_EXPIRY_KEY}', '-inf', nowMs, 'LIMIT', 0, countMax)
  for _, entry in ipairs(entries) do removeEntry(entry) end
  return #entries
end
local function indexEnded(id, tenant, facets, createdAtMs, state, isRunning, nowMs, deletedAtMs)
  redis.call('ZREM', jobSet(tenant, 'open'), id)
  if isRunning then redis.call('ZREM', jobSet(tenant, 'running'), id) end
  addToSet(tenant, state, createdAtMs, id)
  redis.call('ZADD', '${JOB_EXPIRY_KEY}', deletedAtMs, expiryEntry(tenant, id, state, facets))
  removeExpired(nowMs, ${EXPIRED_PER_END})
end
-- Of a job that has ended.
local function removeFromIndex(job, id)
  local tenant, facets, state = unpack(redis.call('HMGET', job, 'tenant', 'facets', 'state'), 1, 3)
  if facets then removeEntry(expiryEntry(tenant, id, state, facets)) end
end
`;
