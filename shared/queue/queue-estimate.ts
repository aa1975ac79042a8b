/** The position of a job in the queue, and an estimate of when it starts. */
import { estimateStart } from "./eta.ts";
import { FairQueue, type WorkAhead, type WaitingJob } from "./fair-queue.ts";
import { laneOf } from "./lanes.ts";
import { waitingFor, type LeasedJob } from "./lost-lease.ts";
import type { QueuePlace } from "../api/queue.ts";
import type { RedisClient } from "../redis/client.ts";
import { pausedModels } from "../workers/model-pauses.ts";
import { canServe, workersServing, type LiveWorker } from "../workers/registry.ts";

/** The estimate for a job that is submitted now. */
export interface NewJobEstimate {
  readonly place: QueuePlace;
  /** It starts sooner than this with a probability of 10 %; null if no estimate is possible. */
  readonly p10Seconds: number | null;
}

/** The models that a generation needs. */
interface UsedModels {
  readonly model: string;
  readonly pairs?: readonly { readonly model: string }[];
}

export class QueueEstimate {
  readonly #redis: RedisClient;
  readonly #queue: FairQueue;

  constructor(redis: RedisClient) {
    this.#redis = redis;
    this.#queue = new FairQueue(redis);
  }

  /** The place of a job; null if it does not wait. */
  async forJob(job: WaitingJob & { readonly generation: UsedModels }): Promise<QueuePlace | null> {
    // At the same time: a submission waits for all.
    const [ahead, fleet] = await Promise.all([
      this.#queue.workAhead(job),
      this.#fleetFor(job.generation),
    ]);
    return ahead && estimate(ahead, fleet).place;
  }

  /** Why a running job waits after its worker was lost; null if a worker runs it. */
  waitingFor(job: LeasedJob): ReturnType<typeof waitingFor> {
    return waitingFor(this.#redis, job);
  }

  /** The estimate for a job submitted now. */
  async forNewJob(
    generation: UsedModels,
    tenant: string,
    priority: number,
  ): Promise<NewJobEstimate> {
    const [ahead, fleet] = await Promise.all([
      this.#queue.workAheadOfNewJob(laneOf(generation), tenant, priority),
      this.#fleetFor(generation),
    ]);
    return estimate(ahead, fleet);
  }

  /** Only workers that serve all models of the job count. */
  async #fleetFor(generation: UsedModels): Promise<Fleet> {
    const models = [generation.model, ...(generation.pairs ?? []).map((pair) => pair.model)];
    const [serving, paused] = await Promise.all([
      workersServing(this.#redis, models),
      pausedModels(this.#redis),
    ]);
    const usable = serving.filter((worker) => canServe(worker, models));
    if (models.some((id) => paused.has(id))) return { workers: [], reason: "paused" };
    if (serving.length === 0) return { workers: [], reason: "no_worker" };
    return { workers: usable, reason: usable.length === 0 ? "base_away" : null };
  }
}

/** The workers that can run a job now; if there is none, the reason. */
interface Fleet {
  readonly workers: readonly LiveWorker[];
  readonly reason: QueuePlace["reason"];
}

function estimate(ahead: WorkAhead, { workers, reason }: Fleet): NewJobEstimate {
  const eta = estimateStart(
    ahead,
    workers.map(({ throughput }) => throughput),
  );
  return {
    place: {
      position: ahead.jobs + 1,
      tokens_ahead: ahead.tokens,
      eta: eta && { p50: eta.p50, p90: eta.p90 },
      reason,
    },
    p10Seconds: eta?.p10 ?? null,
  };
}
