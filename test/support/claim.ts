/** Plays a worker that takes one certain job, whatever waits before it. */
import type { RedisClient } from "../../shared/redis/client.ts";
import { DUE_KEY } from "../../shared/redis/keys.ts";
import { defineScript } from "../../shared/redis/script.ts";
import { EVENT_LOG_LUA } from "../../shared/jobs/event-log.ts";
import { CLAIM_LUA } from "../../shared/jobs/claim-lua.ts";
import { FAIR_QUEUE_LUA } from "../../shared/queue/fair-queue-lua.ts";
import { LEASE_LUA } from "../../shared/queue/lease-lua.ts";

/** Lease of the claimed job: longer than any test. */
const LEASE_MS = 600_000;

const claimScript = defineScript(`
local due, id, leaseMs, fingerprint = KEYS[1], unpack(ARGV)
${EVENT_LOG_LUA}${FAIR_QUEUE_LUA}${LEASE_LUA}${CLAIM_LUA}
local job = jobKey(id)
local state, lane, flow, cost = unpack(redis.call('HMGET', job, 'state', 'lane', 'flow', 'cost'), 1, 4)
if state ~= 'queued' and state ~= 'running' then return 0 end
removeFromFlow(openLane(lane), flow, id, cost)
claim(job, id, '', fingerprint, redisNowMs(), leaseMs)
return tonumber(redis.call('HGET', job, 'attempt'))
`);

/**
 * Starts an attempt at a job.
 * @returns the attempt's number
 * @throws Error if the job has ended or does not exist
 */
export async function claimJob(
  redis: RedisClient,
  id: string,
  leaseMs = LEASE_MS,
  fingerprint = "weights",
): Promise<{ readonly attempt: number }> {
  const attempt = (await claimScript(redis, [DUE_KEY], [id, leaseMs, fingerprint])) as number;
  if (attempt === 0) throw new Error(`${id} cannot be claimed`);
  return { attempt };
}
