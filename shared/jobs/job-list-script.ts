/** The script that finds the jobs of a list in the index, and the one that removes expired jobs from it. */
import { JOB_INDEX_LUA, jobSetKey } from "./job-index-lua.ts";
import { LEASE_LUA } from "../queue/lease-lua.ts";
import { defineScript } from "../redis/script.ts";

/** Entries that one call reads at a time. */
const CHUNK = 100;
/** Times that one call looks a job up in a set, at most, about: it then takes 2 to 3 ms. */
const LOOKUPS_MAX = 2_000;

/** The place of a job in a list: its time of submission (Unix ms) and its id. */
export interface ListPlace {
  readonly atMs: number;
  readonly id: string;
}

/** The script's argument, as JSON. */
export interface ListOrder {
  readonly tenant: string;
  /** Jobs that have all of these facets, and none of `without`. */
  readonly facets: readonly string[];
  readonly without: readonly string[];
  readonly isDescending: boolean;
  /** Jobs behind this place; absent: from the first. */
  readonly after?: ListPlace;
  /** Submitted at this time or later, and before that time (Unix ms); absent for no bound. */
  readonly fromMs?: number;
  readonly beforeMs?: number;
  readonly countMax: number;
}

/** The sets of the index that the order names. */
export const listOrderKeys = ({
  tenant,
  facets,
  without,
}: Pick<ListOrder, "tenant" | "facets" | "without">) =>
  [...facets, ...without].map((facet) => jobSetKey(tenant, facet));

/** Place of the last entry that was looked at ('' for none), 1 if there may be more behind it, then the ids that were found. */
export type ListReply = [atMs: string, id: string, hasMore: 0 | 1, ...ids: string[]];

/**
 * Finds jobs. It goes through the smallest set of the facets and looks every job up in the others: O(log n) if the filters have one
 * facet, and at most LOOKUPS_MAX lookups if they have several. Entries of jobs that do not exist any more are skipped, and leave
 * the sets that were looked at.
 * KEYS: the sets that the order names (listOrderKeys). ARGV: ListOrder (JSON). Returns a ListReply.
 */
export const listJobs = defineScript(`
local order = cjson.decode(ARGV[1])
${LEASE_LUA}${JOB_INDEX_LUA}
local others, sizes = {}, {}
for i, facet in ipairs(order.facets) do
  others[i] = jobSet(order.tenant, facet)
  sizes[others[i]] = redis.call('ZCARD', others[i])
end
-- What is in few sets is refused with the first lookup.
table.sort(others, function(a, b) return sizes[a] < sizes[b] end)
local smallest = table.remove(others, 1)
local function time(ms) return string.format('%.0f', ms) end
-- Bytewise, as Redis orders members of equal score; Lua's own comparison depends on the locale.
local function isBefore(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = string.byte(a, i), string.byte(b, i)
    if x ~= y then return x < y end
  end
  return #a < #b
end
local after, offset = order.after, 0
if order.isDescending then
  local from = math.min(order.beforeMs and order.beforeMs - 1 or math.huge, after and after.atMs or math.huge)
  if from < math.huge then offset = redis.call('ZCOUNT', smallest, '(' .. time(from), '+inf') end
else
  local from = math.max(order.fromMs or -math.huge, after and after.atMs or -math.huge)
  if from > -math.huge then offset = redis.call('ZCOUNT', smallest, '-inf', '(' .. time(from)) end
end
local function isOutside(atMs)
  if order.isDescending then return order.fromMs and atMs < order.fromMs end
  return order.beforeMs and atMs >= order.beforeMs
end
local function isPassed(atMs, id)
  if not after or atMs ~= after.atMs then return false end
  if order.isDescending then return not isBefore(id, after.id) end
  return not isBefore(after.id, id)
end
local lookups = 0
local function isIn(set, id)
  lookups = lookups + 1
  return redis.call('ZSCORE', set, id)
end
local function isMatch(id)
  for _, set in ipairs(others) do
    if not isIn(set, id) then return false end
  end
  for _, facet in ipairs(order.without) do
    if isIn(jobSet(order.tenant, facet), id) then return false end
  end
  return true
end
local reply, gone = {'', '', 0}, {}
local function leaveSets()
  for id, createdAtMs in pairs(gone) do
    -- A Redis that refuses writes still has lists.
    local removed = redis.pcall('ZREM', smallest, id)
    if type(removed) == 'table' then return reply end
    for _, set in ipairs(others) do redis.call('ZREM', set, id) end
    keepPlace(order.tenant, id, createdAtMs)
  end
  return reply
end
while lookups < ${LOOKUPS_MAX} do
  local chunk = redis.call(order.isDescending and 'ZREVRANGE' or 'ZRANGE', smallest, offset, offset + ${CHUNK - 1}, 'WITHSCORES')
  if #chunk == 0 then return leaveSets() end
  for i = 1, #chunk, 2 do
    local id, atMs = chunk[i], tonumber(chunk[i + 1])
    if isOutside(atMs) then return leaveSets() end
    lookups = lookups + 1
    if not isPassed(atMs, id) and isMatch(id) then
      if redis.call('EXISTS', jobKey(id)) == 0 then
        gone[id] = chunk[i + 1]
      else
        if #reply - 3 == order.countMax then
          reply[3] = 1
          return leaveSets()
        end
        reply[#reply + 1] = id
      end
    end
    reply[1], reply[2] = chunk[i + 1], id
    if lookups >= ${LOOKUPS_MAX} then break end
  end
  offset = offset + ${CHUNK}
end
reply[3] = 1
return leaveSets()
`);

/** KEYS: due jobs. ARGV: count at most. Returns how many expired jobs have left the index. */
export const removeExpiredJobs = defineScript(`
${LEASE_LUA}${JOB_INDEX_LUA}
return removeExpired(redisNowMs(), ARGV[1])
`);
