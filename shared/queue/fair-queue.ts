/** Estimates the work that starts before a job that waits, or before one that would be submitted now. */
import { FAIR_QUEUE_LUA, flowOf, flowQueueKey, laneKeys, PRIORITY_STEP } from "./fair-queue-lua.ts";
import type { RedisClient } from "../redis/client.ts";
import { defineScript } from "../redis/script.ts";

/** Flows with a lower start tag of which each is read. If there are more, this many are sampled. */
const FLOWS_READ_MAX = 8;

/** The fields of a job that say where it waits. */
export interface WaitingJob {
  readonly id: string;
  readonly tenant: string;
  readonly lane: string;
  readonly requestOptions: { readonly batch?: string };
}

/** The work of a lane that starts before a job. */
export interface WorkAhead {
  readonly jobs: number;
  /** Tokens that these jobs need at most. */
  readonly tokens: number;
}

/**
 * Estimates what starts before a job in O(log n) of the jobs and flows that wait. Jobs count with the mean cost of their flow. Of
 * the flows with a lower start tag, at most FLOWS_READ_MAX are read: those at equal distances in the order of tags.
 * KEYS: laneKeys(lane), the flow's jobs; the script finds the keys of other flows. ARGV: lane, flow, job id or '' for a new job, priority of a new job.
 * Returns {jobs, their cost in tokens}, or nil if the job does not wait.
 */
const locateJob = defineScript(`
local name, flow, id, priority = unpack(ARGV)
${FAIR_QUEUE_LUA}
local lane = openLane(name)
local queue = flowQueue(lane, flow)
local function flowSize(other)
  return tonumber(redis.call('HGET', lane.tokens, other) or '0'), redis.call('ZCARD', flowQueue(lane, other))
end
local jobs
if id ~= '' then
  jobs = redis.call('ZRANK', queue, id)
  if not jobs then return false end
else
  local place = tonumber(redis.call('HGET', lane.counters, 'arrivals') or '0') + 1 - priority * ${PRIORITY_STEP}
  jobs = redis.call('ZCOUNT', queue, '-inf', string.format('%.0f', place))
end
local ownTokens, ownJobs = flowSize(flow)
local tokens = jobs > 0 and ownTokens * jobs / ownJobs or 0
local start = startTag(lane, flow) + tokens
local flows = redis.call('ZCOUNT', lane.waiting, '-inf', string.format('%.17g', start))
local ownRank = redis.call('ZRANK', lane.waiting, flow)
if ownRank and ownRank < flows then flows = flows - 1 end
local reads = math.min(flows, ${FLOWS_READ_MAX})
local moreJobs, moreTokens = 0, 0
for i = 0, reads - 1 do
  local rank = math.floor((i + 0.5) * flows / reads)
  -- The ranks of the other flows leave out that of the flow itself.
  if ownRank and rank >= ownRank then rank = rank + 1 end
  local other, tag = unpack(redis.call('ZRANGE', lane.waiting, rank, rank, 'WITHSCORES'))
  local allTokens, allJobs = flowSize(other)
  local before = math.ceil(math.min(1, (start - tag) / allTokens) * allJobs)
  moreJobs = moreJobs + before
  moreTokens = moreTokens + allTokens * before / allJobs
end
local scale = reads > 0 and flows / reads or 0
return {math.floor(jobs + moreJobs * scale + 0.5), math.floor(tokens + moreTokens * scale)}
`);

export class FairQueue {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /** The work before a job; null if the job does not wait. */
  workAhead({ id, tenant, lane, requestOptions }: WaitingJob): Promise<WorkAhead | null> {
    return this.#locate(lane, flowOf(tenant, requestOptions.batch !== undefined), id, 0);
  }

  /** The work that would be before a job submitted now. */
  async workAheadOfNewJob(lane: string, tenant: string, priority: number): Promise<WorkAhead> {
    return (await this.#locate(lane, tenant, "", priority))!;
  }

  async #locate(
    lane: string,
    flow: string,
    jobId: string,
    priority: number,
  ): Promise<WorkAhead | null> {
    const keys = [...laneKeys(lane), flowQueueKey(lane, flow)];
    const args = [lane, flow, jobId, priority];
    const reply = (await locateJob(this.#redis, keys, args)) as [number, number] | null;
    return reply && { jobs: reply[0], tokens: reply[1] };
  }
}
