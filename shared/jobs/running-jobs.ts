/** The jobs of all tenants that run, for the operator: without their texts. */
import * as v from "valibot";
import { JOB_STATES } from "../api/jobs.ts";
import type { RedisClient } from "../redis/client.ts";
import { count, countOrNull } from "../redis/fields.ts";
import { jobKey, LEASE_GROUPS_KEY, LEASES_PREFIX, SUSPECTS_PREFIX } from "../redis/keys.ts";
import { defineScript } from "../redis/script.ts";
import { progressFields } from "./phase.ts";

/** Jobs of a list. */
const JOBS_MAX = 200;
/** Names of groups of leases that are read: about a megabyte. */
const GROUPS_MAX = 10_000;

/**
 * KEYS: groups of leases. Returns the count of all running jobs, then of at most JOBS_MAX of them: id, and 1 if a worker has it, 0 if its
 * worker was lost.
 */
const readRunning = defineScript(`
local time = redis.call('TIME')
local nowMs = time[1] * 1000 + math.floor(time[2] / 1000)
local all, jobs = 0, {}
local function add(key, isHeld)
  all = all + redis.call('ZCARD', key)
  local left = ${JOBS_MAX} - #jobs / 2
  if left == 0 then return end
  local found = redis.call('ZRANGE', key, 0, left - 1, 'WITHSCORES')
  for i = 1, #found, 2 do
    jobs[#jobs + 1] = found[i]
    jobs[#jobs + 1] = isHeld(tonumber(found[i + 1])) and 1 or 0
  end
end
for _, group in ipairs(redis.call('SRANDMEMBER', KEYS[1], ${GROUPS_MAX})) do
  add('${LEASES_PREFIX}' .. group, function(expiresMs) return expiresMs > nowMs end)
  add('${SUSPECTS_PREFIX}' .. group, function() return false end)
end
return {all, unpack(jobs)}
`);

const StoredJob = v.object({
  id: v.string(),
  tenant: v.string(),
  model: v.string(),
  state: v.picklist(JOB_STATES),
  attempt: count,
  claim: v.optional(v.string(), ""),
  createdAtMs: count,
  startedAtMs: countOrNull,
  endedAtMs: countOrNull,
  cancelRequested: v.optional(v.string(), ""),
  ...progressFields,
});
const FIELDS = Object.keys(StoredJob.entries);

export interface RunningJob extends v.InferOutput<typeof StoredJob> {
  /** The id of the worker that runs it; null if that worker was lost. */
  readonly workerId: string | null;
}

/** At most 200 of the jobs that run, and how many more there are. Those that ended meanwhile are left out. */
export async function runningJobs(
  redis: RedisClient,
): Promise<{ readonly jobs: readonly RunningJob[]; readonly more: number }> {
  const reply = await readRunning(redis, [LEASE_GROUPS_KEY], []);
  const [all, ...found] = reply as [number, ...(string | 0 | 1)[]];
  const held = Array.from({ length: found.length / 2 }, (_, i) => ({
    id: found[2 * i] as string,
    isHeld: found[2 * i + 1] === 1,
  }));
  const read = await Promise.all(held.map(({ id }) => redis.hmget(jobKey(id), ...FIELDS)));
  const jobs = read.flatMap((values, i): RunningJob[] => {
    const given = FIELDS.flatMap((name, k) => (values[k] == null ? [] : [[name, values[k]]]));
    const job = v.safeParse(StoredJob, Object.fromEntries(given));
    // It was deleted meanwhile, or a newer release writes it in another form.
    if (!job.success || job.output.state !== "running") return [];
    // The id of a claim is that of its worker and a number (take-script.ts).
    const workerId = held[i]!.isHeld ? job.output.claim.replace(/-\d+$/, "") : null;
    return [{ ...job.output, workerId }];
  });
  return { jobs, more: Math.max(0, all - held.length) };
}
