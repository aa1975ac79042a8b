/** What befalls the parts of a stack, at random from a seed, until it is told to leave them in peace. */
import { setTimeout as delay } from "node:timers/promises";
import { LOCK_MS, type Cluster } from "./cluster.ts";
import type { Dice } from "./dice.ts";

interface Fault {
  readonly name: string;
  readonly run: (cluster: Cluster, dice: Dice) => Promise<void>;
}

const PAUSE_MS = [0.3 * LOCK_MS, 3 * LOCK_MS] as const;
/** Of a worker: so long that its jobs are taken over, and it wakes up while another has them. */
const SLEEP_MS = [1.5 * LOCK_MS, 3 * LOCK_MS] as const;

const WORKER_FAULTS: readonly Fault[] = [
  {
    name: "worker killed",
    run: ({ workers }, dice) => dice.pick(workers).replace("SIGKILL", dice.between(0, 1_000)),
  },
  {
    name: "worker told to go",
    run: ({ workers }, dice) => dice.pick(workers).replace("SIGTERM", dice.between(0, 500)),
  },
  {
    name: "worker frozen",
    run: ({ workers }, dice) => dice.pick(workers).freeze(dice.between(...SLEEP_MS)),
  },
  {
    name: "all workers killed",
    run: async ({ workers }) => {
      await Promise.all(workers.map((seat) => seat.replace("SIGKILL", 0)));
    },
  },
  {
    name: "rolling restart",
    run: async ({ workers }) => {
      for (const seat of workers) await seat.replace("SIGTERM", 0);
    },
  },
];

const REDIS_FAULTS: readonly Fault[] = [
  { name: "Redis killed", run: ({ redis }) => redis.crash() },
  { name: "Redis restarted", run: ({ redis }) => redis.restart() },
  {
    name: "Redis frozen",
    run: async ({ redis }, dice) => {
      const { child } = redis;
      child.kill("SIGSTOP");
      await delay(dice.between(...PAUSE_MS));
      child.kill("SIGCONT");
    },
  },
];

const EDGE_FAULTS: readonly Fault[] = [
  { name: "edge killed", run: ({ edge }, dice) => edge.replace("SIGKILL", dice.between(0, 1_000)) },
  { name: "edge restarted", run: ({ edge }) => edge.replace("SIGTERM", 0) },
  { name: "edge frozen", run: ({ edge }, dice) => edge.freeze(dice.between(...PAUSE_MS)) },
];

/** One row of faults for each kind of part, at the same time; ms between two of a row. */
const LANES = [
  { faults: WORKER_FAULTS, betweenMs: [500, 4_000] },
  { faults: REDIS_FAULTS, betweenMs: [3_000, 12_000] },
  { faults: EDGE_FAULTS, betweenMs: [4_000, 15_000] },
] as const;

/**
 * Lets faults happen until the signal aborts; resolves when everything is up again.
 * @returns how often each happened
 */
export async function faults(
  cluster: Cluster,
  dice: Dice,
  signal: AbortSignal,
  onFault: (name: string) => void,
): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  const run = async ({ faults, betweenMs }: (typeof LANES)[number], dice: Dice) => {
    // Every kind in turn before the first one comes again, so that a short run has most of them.
    let left: Fault[] = [];
    for (;;) {
      const [min, max] = betweenMs;
      await delay(dice.between(min, max), null, { signal }).catch(() => {});
      if (signal.aborted) return;
      if (left.length === 0) left = [...faults];
      const [fault] = left.splice(dice.whole(0, left.length - 1), 1);
      counts.set(fault!.name, (counts.get(fault!.name) ?? 0) + 1);
      onFault(fault!.name);
      await fault!.run(cluster, dice);
    }
  };
  await Promise.all(LANES.map((lane) => run(lane, dice.fork())));
  return counts;
}
