/** The operator's view of all tenants: the sums of what each shard has. Each shard is asked at the same time. */
import { AppError } from "../../shared/api/errors.ts";
import type { QueueOverview } from "../../shared/queue/queue-overview.ts";
import type { Days } from "../../shared/usage/store.ts";
import { ACTIVITY_SUMS } from "../../shared/usage/usage-lua.ts";
import type { LiveWorker } from "../../shared/workers/registry.ts";
import type { RequestShards } from "../redis/request-shards.ts";
import type { RequestStores } from "../redis/stores.ts";

/** Jobs of a list of running jobs, as in one shard. */
const JOBS_MAX = 200;

const onEach = <T>(shards: RequestShards, ask: (stores: RequestStores) => Promise<T>) =>
  Promise.all(shards.all().map(ask));

const sumOf = (numbers: readonly number[]) => numbers.reduce((sum, number) => sum + number, 0);

/** The queues of all tenants. Tenants of different shards have no order among each other. */
export async function allQueues(shards: RequestShards): Promise<QueueOverview> {
  const [first, ...others] = await onEach(shards, (stores) => stores.queueOverview());
  if (others.length === 0) return first!;
  const all = [first!, ...others];
  const byModels = Map.groupBy(
    all.flatMap(({ lanes }) => lanes),
    ({ models }) => models.join("+"),
  );
  const lanes = Array.from(byModels.values(), (parts) => ({
    models: parts[0]!.models,
    isPaused: parts.some(({ isPaused }) => isPaused),
    running: sumOf(parts.map(({ running }) => running)),
    suspects: sumOf(parts.map(({ suspects }) => suspects)),
    // All shards have the same workers.
    workers: Math.max(...parts.map(({ workers }) => workers)),
    slots: Math.max(...parts.map(({ slots }) => slots)),
    tenants: parts.flatMap(({ tenants }) => tenants),
    moreTenants: sumOf(parts.map(({ moreTenants }) => moreTenants)),
  }));
  return { lanes, moreLanes: sumOf(all.map(({ moreLanes }) => moreLanes)) };
}

/** Running jobs of all tenants, at most as many as of one shard: of more, each shard's in turn. */
export async function allRunningJobs(shards: RequestShards) {
  const all = await onEach(shards, (stores) => stores.runningJobs());
  const jobs = all
    .flatMap((part) => part.jobs.map((job, turn) => ({ job, turn })))
    .toSorted((a, b) => a.turn - b.turn)
    .map(({ job }) => job);
  const left = Math.max(0, jobs.length - JOBS_MAX);
  return { jobs: jobs.slice(0, JOBS_MAX), more: left + sumOf(all.map(({ more }) => more)) };
}

/** The use of all tenants, or of one, by day, tenant and model. */
export async function allUsage(shards: RequestShards, days: Days, tenant?: string) {
  return (await onEach(shards, ({ usage }) => usage.byTenant(days, tenant))).flat();
}

/** Jobs that ended with an error, by day and error code. */
export async function allFailures(shards: RequestShards, days: Days) {
  const found = (await onEach(shards, ({ usage }) => usage.failures(days))).flat();
  const groups = Map.groupBy(found, ({ day, code }) => `${day} ${code}`);
  return Array.from(groups.values(), (parts) => ({
    ...parts[0]!,
    jobs: sumOf(parts.map(({ jobs }) => jobs)),
  })).toSorted((a, b) => a.day - b.day);
}

/** The last hour of all tenants, by minute. */
export async function allActivity(shards: RequestShards) {
  const [first, ...others] = await onEach(shards, ({ usage }) => usage.activity(null));
  return first!.map((minute) => {
    const parts = [
      minute,
      ...others.flatMap((all) => all.filter(({ atMs }) => atMs === minute.atMs)),
    ];
    const sums = ACTIVITY_SUMS.map((sum) => [sum, sumOf(parts.map((part) => part[sum]))]);
    return { ...minute, ...(Object.fromEntries(sums) as Partial<typeof minute>) };
  });
}

/** The stores of the shard that has a job; null if none has. */
export async function shardOfJob(
  shards: RequestShards,
  jobId: string,
): Promise<RequestStores | null> {
  const found = await onEach(shards, async (stores) =>
    (await stores.jobs.record(jobId)) === null ? null : stores,
  );
  return found.find((stores) => stores !== null) ?? null;
}

/** Readiness waits this much longer for the other shards than for the first that can be used. Probes often wait a second or less in all. */
const OTHERS_MS = 200;

/**
 * Resolves if a shard can be used: the tenants of the others get 503 meanwhile. It can if it takes writes, and has its place in REDIS_URL.
 * @param onProblem called with each problem of the list of URLs. One that lacks shards is used: the tenants of the others are served
 * @throws the error of the first shard
 */
export async function requireUsableShard(
  shards: RequestShards,
  onProblem: (problem: string) => void,
): Promise<void> {
  const all = shards.all();
  const ask = async ({ readiness }: RequestStores) => {
    const [{ order, length }] = await Promise.all([
      readiness.listProblems(all.length),
      readiness.requireWritable(),
    ]);
    if (length !== null) onProblem(length);
    if (order === null) return;
    onProblem(order);
    throw new AppError("queue_unavailable", "The URLs of the queues are in a wrong order");
  };
  const asked = all.map(ask);
  try {
    await Promise.any(asked);
  } catch (error) {
    throw (error as AggregateError).errors[0];
  }
  // A shard that can be used hides no problem of the others, and one that is silent does not hold the reply.
  const late = Promise.withResolvers<void>();
  const timer = setTimeout(late.resolve, OTHERS_MS);
  await Promise.race([Promise.allSettled(asked), late.promise]);
  clearTimeout(timer);
}

/** Pauses or resumes a model for all tenants. */
export async function setPaused(shards: RequestShards, model: string, isPaused: boolean) {
  await onEach(shards, ({ fleet }) =>
    isPaused ? fleet.pauseModel(model) : fleet.resumeModel(model),
  );
}

/** Since when each model is paused (Unix ms), by its id, if it is on any shard: one that was added later was not told. */
export async function allPaused(shards: RequestShards): Promise<ReadonlyMap<string, number>> {
  const all = await onEach(shards, ({ fleet }) => fleet.pausedModels());
  const latestFirst = all.flatMap((paused) => [...paused]).toSorted((a, b) => b[1] - a[1]);
  return new Map(latestFirst);
}

/** All live workers. One that cannot reach a shard is known to the others. */
export async function allWorkers(shards: RequestShards): Promise<LiveWorker[]> {
  const found = (await onEach(shards, ({ fleet }) => fleet.workers())).flat();
  const byId = Map.groupBy(found, ({ id }) => id);
  return Array.from(byId.values(), (reports) => ({
    ...reports[0]!,
    isDraining: reports.some(({ isDraining }) => isDraining),
  }));
}

/** Drains a worker, which reads it from any shard. @returns false if no such worker lives */
export async function drainOnAll(shards: RequestShards, workerId: string): Promise<boolean> {
  return (await onEach(shards, ({ fleet }) => fleet.drainWorker(workerId))).some(Boolean);
}
