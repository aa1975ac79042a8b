/** Says where each job stands that has not ended, from its record, its log and its lease in Redis. */
import type { Redis } from "ioredis";
import {
  DUE_KEY,
  jobKey,
  LEASE_GROUPS_KEY,
  LEASES_PREFIX,
  logKey,
  SUSPECTS_PREFIX,
  WAITING_JOBS_KEY,
} from "../../shared/redis/keys.ts";
import { redisNow } from "../../shared/redis/clock.ts";

const JOBS_MAX = 20;

/** @returns a line for each of the first 20 */
export async function describeUnendedJobs(redis: Redis): Promise<string[]> {
  const ids = await redis.zrange(DUE_KEY, 0, String(JOBS_MAX - 1));
  const groups = await redis.smembers(LEASE_GROUPS_KEY);
  const nowMs = await redisNow(redis);
  return Promise.all(ids.map((id) => describe(redis, id, groups, nowMs)));
}

async function describe(redis: Redis, id: string, groups: string[], nowMs: number) {
  const names = ["state", "attempt", "tokens", "seq", "cancelRequested"] as const;
  const values = await redis.hmget(jobKey(id), ...names);
  const fields = names.map((name, i) => `${name} ${values[i] ?? "-"}`);
  const seconds = (ms: number) => `${((ms - nowMs) / 1000).toFixed(1)} s`;
  const [last] = await redis.xrevrange(logKey(id), "+", "-", "COUNT", 1);
  const lastType = last?.[1][last[1].indexOf("type") + 1];
  const places: string[] = [];
  const waitingMs = await redis.zscore(WAITING_JOBS_KEY, id);
  if (waitingMs !== null) places.push(`waits since ${seconds(Number(waitingMs))}`);
  for (const group of groups) {
    const leaseMs = await redis.zscore(`${LEASES_PREFIX}${group}`, id);
    if (leaseMs !== null) places.push(`lease until ${seconds(Number(leaseMs))} in ${group}`);
    const lostMs = await redis.zscore(`${SUSPECTS_PREFIX}${group}`, id);
    if (lostMs !== null) places.push(`suspect since ${seconds(Number(lostMs))} in ${group}`);
  }
  if (places.length === 0) places.push("neither waits nor has a lease");
  return `${id} has not ended: ${[...fields, `last event ${lastType ?? "-"}`, ...places].join(", ")}`;
}
