/** Injects random faults into a stack: kills, restarts and freezes workers, Redis and the edge. */
import { setTimeout as delay } from "node:timers/promises";
import { LOCK_MS, type Cluster } from "./cluster.ts";
import type { SeededRandom } from "./seeded-random.ts";

interface Fault {
  readonly name: string;
  readonly run: (cluster: Cluster, random: SeededRandom) => Promise<void>;
}

/** How long Redis or the edge is frozen. */
const FREEZE_MS = [0.3 * LOCK_MS, 3 * LOCK_MS] as const;
/** How long a worker is frozen: other workers take over its jobs, and it wakes up while they run them. */
const WORKER_FREEZE_MS = [1.5 * LOCK_MS, 3 * LOCK_MS] as const;

const WORKER_FAULTS: readonly Fault[] = [
  {
    name: "worker killed",
    run: ({ workers }, random) => random.pick(workers).replace("SIGKILL", random.between(0, 1_000)),
  },
  {
    name: "worker stopped (SIGTERM)",
    run: ({ workers }, random) => random.pick(workers).replace("SIGTERM", random.between(0, 500)),
  },
  {
    name: "worker frozen",
    run: ({ workers }, random) => random.pick(workers).freeze(random.between(...WORKER_FREEZE_MS)),
  },
  {
    name: "all workers killed",
    run: async ({ workers }) => {
      await Promise.all(workers.map((worker) => worker.replace("SIGKILL", 0)));
    },
  },
  {
    name: "rolling restart",
    run: async ({ workers }) => {
      for (const worker of workers) await worker.replace("SIGTERM", 0);
    },
  },
];

const REDIS_FAULTS: readonly Fault[] = [
  { name: "Redis killed", run: ({ redis }) => redis.crash() },
  { name: "Redis restarted", run: ({ redis }) => redis.restart() },
  {
    name: "Redis frozen",
    run: async ({ redis }, random) => {
      const { child } = redis;
      child.kill("SIGSTOP");
      await delay(random.between(...FREEZE_MS));
      child.kill("SIGCONT");
    },
  },
];

const EDGE_FAULTS: readonly Fault[] = [
  {
    name: "edge killed",
    run: ({ edge }, random) => edge.replace("SIGKILL", random.between(0, 1_000)),
  },
  { name: "edge restarted", run: ({ edge }) => edge.replace("SIGTERM", 0) },
  { name: "edge frozen", run: ({ edge }, random) => edge.freeze(random.between(...FREEZE_MS)) },
];

/** Faults of the three kinds of parts happen independently; `betweenMs` is the time from one to the next. */
const FAULT_SERIES = [
  { faults: WORKER_FAULTS, betweenMs: [500, 4_000] },
  { faults: REDIS_FAULTS, betweenMs: [3_000, 12_000] },
  { faults: EDGE_FAULTS, betweenMs: [4_000, 15_000] },
] as const;

/**
 * Injects faults until the signal aborts; resolves when every part runs again.
 * @returns how often each fault happened
 */
export async function injectFaults(
  cluster: Cluster,
  random: SeededRandom,
  signal: AbortSignal,
  onFault: (name: string) => void,
): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  const run = async (
    { faults, betweenMs }: (typeof FAULT_SERIES)[number],
    random: SeededRandom,
  ) => {
    // No fault repeats before all others have happened, so that a short run has most of them.
    let remaining: Fault[] = [];
    for (;;) {
      const [min, max] = betweenMs;
      await delay(random.between(min, max), null, { signal }).catch(() => {});
      if (signal.aborted) return;
      if (remaining.length === 0) remaining = [...faults];
      const [fault] = remaining.splice(random.integer(0, remaining.length - 1), 1);
      counts.set(fault!.name, (counts.get(fault!.name) ?? 0) + 1);
      onFault(fault!.name);
      await fault!.run(cluster, random);
    }
  };
  await Promise.all(FAULT_SERIES.map((series) => run(series, random.fork())));
  return counts;
}
