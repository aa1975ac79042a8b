/**
 * Running jobs that no worker can continue. A job that has a token continues only with the same weights, because others would
 * give another text. After a change of weights, the jobs that the drain gave up would wait for them until their deadline.
 */
import type { RedisClient } from "../../shared/redis/client.ts";
import { expiredLeases } from "../../shared/jobs/sweep-script.ts";
import { leaseGroupKeys } from "../../shared/queue/lease-lua.ts";
import { laneOfGroup } from "../../shared/queue/lanes.ts";
import { hasWeights } from "../../shared/queue/lost-lease.ts";
import { LEASE_GROUPS_KEY, NAME_SEPARATOR } from "../../shared/redis/keys.ts";
import { liveWorkers, type LiveWorker } from "../../shared/workers/registry.ts";

/** Jobs end when no worker has reported their weights for this long. A restart of all workers must take less. */
const LOST_AFTER_MS = 600_000;
const CHECK_INTERVAL_MS = 10_000;
/** Jobs of each group of leases that end in one check. */
const JOBS_MAX = 500;

/** The error of these jobs. */
export const WEIGHTS_LOST = {
  code: "worker_lost",
  message: `No worker has had the weights with which the job began for ${LOST_AFTER_MS / 60_000} minutes; submit it again`,
} as const;

export class LostWeights {
  readonly #redis: RedisClient;
  /** Since when no worker has the weights of a group of leases, in the time of `performance.now()`. */
  #missingSince = new Map<string, number>();
  #checkedMs = -Infinity;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /** The ids of jobs that must end. It looks for them every 10 s, and returns none in between. */
  async jobs(): Promise<string[]> {
    const nowMs = performance.now();
    if (nowMs - this.#checkedMs < CHECK_INTERVAL_MS) return [];
    this.#checkedMs = nowMs;
    const [groups, workers] = await Promise.all([
      this.#redis.smembers(LEASE_GROUPS_KEY),
      liveWorkers(this.#redis),
    ]);
    const isServed = await Promise.all(groups.map((group) => isContinued(group, workers)));
    const missing = groups.filter((_, i) => !isServed[i]);
    this.#missingSince = new Map(
      missing.map((group) => [group, this.#missingSince.get(group) ?? nowMs]),
    );
    const lost = missing.filter((group) => nowMs - this.#missingSince.get(group)! >= LOST_AFTER_MS);
    const ids = await Promise.all(
      lost.map((group) => expiredLeases(this.#redis, leaseGroupKeys(group), [JOBS_MAX])),
    );
    return (ids as string[][]).flat();
  }
}

/** Whether jobs of the group can continue at one of the workers, or must be left to others. */
async function isContinued(group: string, workers: readonly LiveWorker[]): Promise<boolean> {
  const fingerprint = group.slice(0, group.indexOf(NAME_SEPARATOR));
  // Jobs without a token run with any weights.
  return fingerprint === "" || hasWeights(workers, { lane: laneOfGroup(group), fingerprint });
}
