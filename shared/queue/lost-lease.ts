/** Why a running job waits after its worker was lost: its lease has expired, and no worker has taken it over yet. */
import { LEASE_LUA } from "./lease-lua.ts";
import { isNewerLane, serveLane } from "./lanes.ts";
import type { RedisClient } from "../redis/client.ts";
import { JOB_PREFIX, LEASES_PREFIX } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";
import { liveWorkers, type LiveWorker } from "../workers/registry.ts";

export interface LeasedJob {
  readonly id: string;
  readonly lane: string;
  /** The lane's fingerprint at the worker that ran it last. */
  readonly fingerprint: string;
  readonly tokens: number;
}

/** KEYS: the job. ARGV: its id. Returns 1 if it runs and its lease has expired, else 0. */
const hasLostLease = defineScript(`
local job, id = KEYS[1], ARGV[1]
${LEASE_LUA}
if redis.call('HGET', job, 'state') ~= 'running' then return 0 end
local expiresMs = redis.call('ZSCORE', '${LEASES_PREFIX}' .. groupOf(job), id)
return expiresMs and tonumber(expiresMs) > redisNowMs() and 0 or 1
`);

/**
 * @param job a running job
 * @returns `worker` if another worker will take it over; `weights` if no live worker has those with which it began; null if a
 *   worker runs it
 */
export async function waitingFor(
  redis: RedisClient,
  job: LeasedJob,
): Promise<"worker" | "weights" | null> {
  if ((await hasLostLease(redis, [JOB_PREFIX + job.id], [job.id])) === 0) return null;
  // Without a token it can run with any weights.
  if (job.tokens === 0 || job.fingerprint === "") return "worker";
  return (await hasWeights(await liveWorkers(redis), job)) ? "worker" : "weights";
}

/** Whether one of the workers has the weights of the lane, or the lane is left to those of a newer release. */
export async function hasWeights(
  workers: readonly LiveWorker[],
  { lane, fingerprint }: Pick<LeasedJob, "lane" | "fingerprint">,
): Promise<boolean> {
  if (isNewerLane(lane)) return true;
  const served = await Promise.all(
    workers.map(({ models }) =>
      serveLane(lane, new Map(models.map((model) => [model.id, model.fingerprint]))),
    ),
  );
  return served.some((each) => each?.fingerprint === fingerprint);
}
