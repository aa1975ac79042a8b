/** The lengths of the queues of all shards together. Of a shard that does not answer, the last ones count. */
import type { LaneCounts } from "../../shared/queue/lane-counts.ts";
import type { Metrics } from "./metrics.ts";
import type { QueueGauges } from "./queue-gauges.ts";

export class QueueSums {
  readonly #metrics: Pick<Metrics, "setQueueGauges" | "setModelJobs">;
  /** By queue, and by shard. */
  readonly #gauges = new Map<string, Map<number, QueueGauges>>();
  /** By shard. */
  readonly #models = new Map<number, ReadonlyMap<string, LaneCounts>>();

  constructor(metrics: Pick<Metrics, "setQueueGauges" | "setModelJobs">) {
    this.#metrics = metrics;
  }

  setGauges(shard: number, gauges: QueueGauges): void {
    const { queue } = gauges;
    const byShard = this.#gauges.get(queue) ?? new Map<number, QueueGauges>();
    this.#gauges.set(queue, byShard.set(shard, gauges));
    const sum = [...byShard.values()].reduce((a, b) => ({
      queue,
      waiting: a.waiting + b.waiting,
      delayed: a.delayed + b.delayed,
      active: a.active + b.active,
      ageSeconds: Math.max(a.ageSeconds, b.ageSeconds),
    }));
    this.#metrics.setQueueGauges(sum);
  }

  setModels(shard: number, models: ReadonlyMap<string, LaneCounts>): void {
    this.#models.set(shard, models);
    const sums = new Map<string, LaneCounts>();
    for (const ofShard of this.#models.values()) {
      for (const [id, counts] of ofShard) {
        const { waiting, running, ageSeconds } = sums.get(id) ?? NO_JOBS;
        sums.set(id, {
          waiting: waiting + counts.waiting,
          running: running + counts.running,
          ageSeconds: Math.max(ageSeconds, counts.ageSeconds),
        });
      }
    }
    this.#metrics.setModelJobs(sums);
  }
}

const NO_JOBS: LaneCounts = { waiting: 0, running: 0, ageSeconds: 0 };
