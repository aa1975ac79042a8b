/** The position of a job in the queue, and an estimate of when it starts. */
import { estimateStart } from "./eta.ts";
import { FairQueue, type WorkAhead, type WaitingJob } from "./fair-queue.ts";
import { laneOf } from "./lanes.ts";
import { waitingFor, type LeasedJob } from "./lost-lease.ts";
import type { QueuePlace } from "../api/queue.ts";
import type { RedisClient } from "../redis/client.ts";
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
    // At the same time: a submission waits for both.
    const [ahead, workers] = await Promise.all([
      this.#queue.workAhead(job),
      this.#workersFor(job.generation),
    ]);
    return ahead && estimate(ahead, job.generation, workers).place;
  }

  /** What a running job waits for whose worker was lost; null if a worker runs it. */
  waitingFor(job: LeasedJob): ReturnType<typeof waitingFor> {
    return waitingFor(this.#redis, job);
  }

  /** The estimate for a job submitted now. */
  async forNewJob(
    generation: UsedModels,
    tenant: string,
    priority: number,
  ): Promise<NewJobEstimate> {
    const [ahead, workers] = await Promise.all([
      this.#queue.workAheadOfNewJob(laneOf(generation), tenant, priority),
      this.#workersFor(generation),
    ]);
    return estimate(ahead, generation, workers);
  }

  /** Only workers that serve all models of the job count. */
  #workersFor(generation: UsedModels): Promise<LiveWorker[]> {
    return workersServing(this.#redis, idsOf(generation));
  }
}

const idsOf = ({ model, pairs = [] }: UsedModels) => [model, ...pairs.map((pair) => pair.model)];

/** @param serving the workers that serve the models, some of which may have no base for them now */
function estimate(
  ahead: WorkAhead,
  generation: UsedModels,
  serving: readonly LiveWorker[],
): NewJobEstimate {
  const workers = serving.filter((worker) => canServe(worker, idsOf(generation)));
  const missing = serving.length === 0 ? "no_worker" : "base_away";
  const eta = estimateStart(
    ahead,
    workers.map(({ throughput }) => throughput),
  );
  return {
    place: {
      position: ahead.jobs + 1,
      tokens_ahead: ahead.tokens,
      eta: eta && { p50: eta.p50, p90: eta.p90 },
      reason: workers.length === 0 ? missing : null,
    },
    p10Seconds: eta?.p10 ?? null,
  };
}
