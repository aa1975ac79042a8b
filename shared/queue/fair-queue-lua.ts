/**
 * The fair queues: which waiting job of a lane runs next. It is start-time fair queueing (Goyal, Vin, Cheng 1996) between
 * tenants; within a tenant, priority decides first and age second.
 *
 *     lane "atlas-qa"                         lane "atlas-qa+gsm-mini"
 *       flow "a"    job 4, job 7                flow "a"    job 9
 *       flow "b"    job 5                            │
 *            │                                       │
 *            └────── a worker that serves both takes from them in turn
 *
 * Terms:
 * - Flow: the waiting jobs of one tenant in a lane. A tenant's batches are a second flow.
 * - Cost of a job: the tokens that it may need, prompt included, as estimated when it was submitted.
 * - Start tag of a flow: the virtual time, in tokens, at which its next job may start. The flow with the lowest start tag is
 *   served, and its tag rises by the cost of the job. When the job ends, the tag is corrected by the tokens that the job used:
 *   down if it used fewer, up if it used more.
 * - Virtual time of a lane: the highest start tag that was served. It never decreases. A flow that was idle starts at the
 *   virtual time, so it cannot save up tokens, and many jobs of one tenant raise only that tenant's tag. A correction may bring
 *   the tag of a flow that waits below the virtual time: it gets back what its jobs did not use.
 * - The tags of batches begin at 2^50, above all others, and have a separate virtual time: jobs of batches are served
 *   when no other job of the lane waits.
 *
 * The names of a lane's keys are made in Lua: many scripts learn the lane from a job. Those that are called with a lane declare its keys
 * too (laneKeys).
 */
import {
  FLOW_QUEUE_PREFIX,
  FLOW_TOKENS_PREFIX,
  IDLE_FLOWS_PREFIX,
  LANE_COUNTERS_PREFIX,
  LANES_KEY,
  NAME_SEPARATOR,
  SIGNALS_CHANNEL,
  WAITING_FLOWS_PREFIX,
  WAITING_JOBS_KEY,
} from "../redis/keys.ts";

/** Priority outweighs age: one step of priority is worth 2^40 arrivals. */
export const PRIORITY_STEP = 2 ** 40;

/** The first start tag of a flow of batches. */
const BATCH_TAG = 2 ** 50;

/** A lane that is empty for this long forgets its virtual time and the tags of its idle flows. */
const EMPTY_LANE_TTL_MS = 3_600_000;

/** First character of the name of a flow of batches. No tenant's id begins with it. */
const BATCH_MARK = "~";

/** The name of the flow in which a tenant's jobs wait. */
export function flowOf(tenant: string, isBatch: boolean): string {
  return isBatch ? BATCH_MARK + tenant : tenant;
}

/** The tenant whose jobs wait in a flow, and whether they are those of its batches. */
export function tenantOf(flow: string): { readonly tenant: string; readonly isBatch: boolean } {
  const isBatch = flow.startsWith(BATCH_MARK);
  return { tenant: isBatch ? flow.slice(BATCH_MARK.length) : flow, isBatch };
}

/** The keys of a lane that `openLane` names. */
export const laneKeys = (lane: string) =>
  [WAITING_FLOWS_PREFIX, IDLE_FLOWS_PREFIX, LANE_COUNTERS_PREFIX, FLOW_TOKENS_PREFIX].map(
    (prefix) => prefix + lane,
  );

/** The key of a flow's jobs in a lane. */
export const flowQueueKey = (lane: string, flow: string) =>
  `${FLOW_QUEUE_PREFIX}${lane}${NAME_SEPARATOR}${flow}`;

/**
 * Lua functions of the fair queues. `lane` is the table that `openLane` returns. Each function costs O(log n) in the number
 * of jobs and of flows.
 */
export const FAIR_QUEUE_LUA = `
local function openLane(name)
  return {
    name = name, waiting = '${WAITING_FLOWS_PREFIX}' .. name, idle = '${IDLE_FLOWS_PREFIX}' .. name,
    counters = '${LANE_COUNTERS_PREFIX}' .. name, tokens = '${FLOW_TOKENS_PREFIX}' .. name
  }
end
local function flowQueue(lane, flow) return '${FLOW_QUEUE_PREFIX}' .. lane.name .. '${NAME_SEPARATOR}' .. flow end
local function isBatchFlow(flow) return string.sub(flow, 1, 1) == '${BATCH_MARK}' end
local function virtualTimeField(flow) return isBatchFlow(flow) and 'batchVirtualTime' or 'virtualTime' end
local function leastTag(flow) return isBatchFlow(flow) and ${BATCH_TAG} or 0 end
local function virtualTime(lane, flow)
  return tonumber(redis.call('HGET', lane.counters, virtualTimeField(flow)) or leastTag(flow))
end
local function startTag(lane, flow)
  local tag = redis.call('ZSCORE', lane.waiting, flow)
  if tag then return tonumber(tag) end
  return math.max(virtualTime(lane, flow), tonumber(redis.call('ZSCORE', lane.idle, flow) or 0))
end
-- The only function that writes a start tag. An idle flow has none unless it is above the virtual time.
local function setStartTag(lane, flow, tag)
  local isWaiting = redis.call('EXISTS', flowQueue(lane, flow)) == 1
  tag = math.max(leastTag(flow), tag)
  redis.call('ZREM', isWaiting and lane.idle or lane.waiting, flow)
  if isWaiting or tag > virtualTime(lane, flow) then
    redis.call('ZADD', isWaiting and lane.waiting or lane.idle, string.format('%.17g', tag), flow)
  else
    redis.call('ZREM', lane.idle, flow)
  end
  if redis.call('EXISTS', lane.waiting) == 1 then
    redis.call('SADD', '${LANES_KEY}', lane.name)
  else
    redis.call('SREM', '${LANES_KEY}', lane.name)
    for _, key in ipairs({lane.counters, lane.idle}) do redis.call('PEXPIRE', key, ${EMPTY_LANE_TTL_MS}) end
  end
end
local function addToFlow(lane, flow, id, cost, priority, submittedMs)
  for _, key in ipairs({lane.counters, lane.idle}) do redis.call('PERSIST', key) end
  local tag = startTag(lane, flow)
  local place = redis.call('HINCRBY', lane.counters, 'arrivals', 1) - priority * ${PRIORITY_STEP}
  redis.call('ZADD', flowQueue(lane, flow), string.format('%.0f', place), id)
  redis.call('HINCRBY', lane.tokens, flow, cost)
  redis.call('ZADD', '${WAITING_JOBS_KEY}', submittedMs, id)
  setStartTag(lane, flow, tag)
  redis.call('PUBLISH', '${SIGNALS_CHANNEL}', 'work ' .. lane.name)
end
-- Returns whether the job was waiting.
local function removeFromFlow(lane, flow, id, cost)
  local tag = startTag(lane, flow)
  if redis.call('ZREM', flowQueue(lane, flow), id) == 0 then return false end
  redis.call('ZREM', '${WAITING_JOBS_KEY}', id)
  redis.call('HINCRBY', lane.tokens, flow, 0 - cost)
  -- The cost of a job whose record was lost is read as 0 (Redis refuses -0), so the sum may stay above 0.
  if redis.call('EXISTS', flowQueue(lane, flow)) == 0 then redis.call('HDEL', lane.tokens, flow) end
  setStartTag(lane, flow, tag)
  return true
end
-- Removes and returns the next job of the lane, or nil.
local function popNextJob(lane, costOf)
  local first, id
  while not id do
    first = redis.call('ZRANGE', lane.waiting, 0, 0, 'WITHSCORES')
    if not first[1] then return nil end
    id = redis.call('ZRANGE', flowQueue(lane, first[1]), 0, 0)[1]
    -- Its jobs were lost: the repair queues them again.
    if not id then
      redis.call('HDEL', lane.tokens, first[1])
      setStartTag(lane, first[1], tonumber(first[2]))
    end
  end
  local flow, tag = first[1], tonumber(first[2])
  local cost = costOf(id)
  removeFromFlow(lane, flow, id, cost)
  -- A waiting flow may have a tag below the virtual time, after a correction.
  local now = string.format('%.17g', math.max(virtualTime(lane, flow), tag))
  redis.call('HSET', lane.counters, virtualTimeField(flow), now)
  -- An idle flow whose tag has been passed starts at the virtual time anyway.
  redis.call('ZREMRANGEBYSCORE', lane.idle, isBatchFlow(flow) and '${BATCH_TAG}' or '-inf', now)
  setStartTag(lane, flow, tag + cost)
  return id
end
`;
