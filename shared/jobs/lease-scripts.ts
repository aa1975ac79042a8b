/** The scripts with which a worker keeps the jobs that it runs, or gives them up. */
import { LEASE_LUA } from "../queue/lease-lua.ts";
import { SIGNALS_CHANNEL } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";
import { WRITE_WHEN_FULL_LUA } from "./event-log.ts";
import { FENCE_LUA } from "./fence.ts";

/**
 * Renews the leases of the jobs that a worker runs.
 * KEYS: due jobs, then each job. ARGV: leaseMs, then id and fence of each job.
 * Returns for each job 'kept', 'cancelled' (its cancellation was requested), 'expired' (its deadline has passed), or 'lost': it
 * has ended or another worker has claimed it. The lease of a lost job is not renewed.
 */
export const renewLeases = defineScript(`
local due = KEYS[1]
${LEASE_LUA}${FENCE_LUA}
${WRITE_WHEN_FULL_LUA}
local nowMs, leaseMs = redisNowMs(), ARGV[1]
local replies = {}
for i = 2, #ARGV, 2 do
  local id, fence, job = ARGV[i], ARGV[i + 1], KEYS[i / 2 + 1]
  local state, cancelRequested, deadlineMs, attempt, claim, lane, fingerprint, tokens = unpack(redis.call('HMGET', job, 'state',
    'cancelRequested', 'deadlineMs', 'attempt', 'claim', 'lane', 'fingerprint', 'tokens'), 1, 8)
  if state ~= 'running' or fenceOfFields(attempt, claim) ~= fence then
    replies[#replies + 1] = 'lost'
  else
    renewLease(groupOfFields(lane, fingerprint, tokens), id, nowMs + leaseMs)
    replies[#replies + 1] = cancelRequested == '1' and 'cancelled' or tonumber(deadlineMs) <= nowMs and 'expired' or 'kept'
  end
end
return replies
`);

/**
 * A worker that stops gives up the jobs that it still runs: other workers take them over at once. The attempts do not count as
 * lost.
 * KEYS: due jobs, then each job. ARGV: id and fence of each job.
 */
export const releaseLeases = defineScript(`
local due = KEYS[1]
${LEASE_LUA}${FENCE_LUA}
${WRITE_WHEN_FULL_LUA}
for i = 1, #ARGV, 2 do
  local id, fence, job = ARGV[i], ARGV[i + 1], KEYS[(i + 1) / 2 + 1]
  local state, lane = unpack(redis.call('HMGET', job, 'state', 'lane'), 1, 2)
  if state == 'running' and fenceOf(job) == fence then
    giveUpLease(job, id, redisNowMs())
    redis.call('PUBLISH', '${SIGNALS_CHANNEL}', 'work ' .. lane)
  end
end
`);

/**
 * A worker cannot read a job that it has claimed: a newer release has written it. The job can be claimed again after a pause. The
 * attempt does not count as lost.
 * KEYS: due jobs, the job. ARGV: id, fence, pause in milliseconds.
 */
export const leaveToNewer = defineScript(`
local due, job = unpack(KEYS)
local id, fence, pauseMs = unpack(ARGV)
${LEASE_LUA}${FENCE_LUA}
${WRITE_WHEN_FULL_LUA}
if redis.call('HGET', job, 'state') == 'running' and fenceOf(job) == fence then giveUpLease(job, id, redisNowMs() + pauseMs) end
`);

/**
 * The run of a job threw: the job can be tried again after a pause that doubles with each failure. The attempt does not count
 * as lost. An attempt counts as one failure, even if its worker sends the script twice.
 * KEYS: due jobs, the job. ARGV: id, fence, first pause in milliseconds, failures at most.
 * Returns 1 if it will be tried again, 0 if these were too many failures, -1 if the caller has lost the job.
 */
export const retryLater = defineScript(`
local due, job = unpack(KEYS)
local id, fence, pauseMs, failuresMax = unpack(ARGV)
${LEASE_LUA}${FENCE_LUA}
${WRITE_WHEN_FULL_LUA}
if redis.call('HGET', job, 'state') ~= 'running' or fenceOf(job) ~= fence then return -1 end
if redis.call('HGET', job, 'failedAttempt') ~= fence then
  redis.call('HINCRBY', job, 'failures', 1)
  redis.call('HSET', job, 'failedAttempt', fence)
end
local failures = tonumber(redis.call('HGET', job, 'failures'))
giveUpLease(job, id, redisNowMs() + pauseMs * 2 ^ (failures - 1))
return failures < tonumber(failuresMax) and 1 or 0
`);
