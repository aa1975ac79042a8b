/**
 * How long the queues are, for the metrics: asked of Redis now and then, and not when Prometheus asks, because an answer
 * must not wait for a Redis that is away.
 */
import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { QUEUES, QUEUE_PREFIX } from "../shared/redis-keys.ts";

const INTERVAL_MS = 2_000;

export interface QueueFigures {
  readonly queue: string;
  /** Not yet at a worker, and of these those that are not yet due. */
  readonly waiting: number;
  readonly delayed: number;
  /** At a worker. */
  readonly active: number;
  /** Seconds for which the first of those that wait has done so; 0 where none waits. */
  readonly ageSeconds: number;
}

export interface QueueFiguresDeps {
  readonly connection: Redis;
  readonly log: Logger;
  readonly tell: (figures: QueueFigures) => void;
}

/** @returns a function that stops the asking */
export function watchQueues({ connection, log, tell }: QueueFiguresDeps): () => void {
  const queues = QUEUES.map((name) => new Queue(name, { connection, prefix: QUEUE_PREFIX }));
  for (const queue of queues) {
    queue.on("error", (error) => log.warn({ reason: error.message }, "queue figures"));
  }
  let asking = false;
  const ask = () => {
    if (asking) return;
    asking = true;
    Promise.all(queues.map(async (queue) => tell(await figuresOf(queue))))
      .catch((error: unknown) => log.warn({ err: error }, "queue figures"))
      .finally(() => (asking = false));
  };
  ask();
  const timer = setInterval(ask, INTERVAL_MS);
  return () => clearInterval(timer);
}

async function figuresOf(queue: Queue): Promise<QueueFigures> {
  const [counts, [first]] = await Promise.all([
    queue.getJobCounts("waiting", "delayed", "active"),
    queue.getJobs(["waiting"], 0, 0, true),
  ]);
  const { waiting = 0, delayed = 0, active = 0 } = counts;
  const ageSeconds = first ? Math.max(0, Date.now() - first.timestamp) / 1000 : 0;
  return { queue: queue.name, waiting, delayed, active, ageSeconds };
}
