/** The parts of a worker process: the objects that run.ts gives them, and the functions with which it stops them. */
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { Job } from "../shared/api/jobs.ts";
import type { JobRecord } from "../shared/jobs/record.ts";
import type { JobStore } from "../shared/jobs/store.ts";
import type { WebhookPublisher } from "../shared/webhooks/publisher.ts";
import type { WatchedClock } from "./redis/clock.ts";
import type { Metrics } from "./telemetry/metrics.ts";

/** A part works on one shard (shared/redis/shards.ts): these are the shard's. Log and metrics are the process's. */
export interface PartDeps {
  /** Its number. */
  readonly shard: number;
  readonly connection: Redis;
  readonly clock: WatchedClock;
  readonly store: JobStore;
  readonly publisher: WebhookPublisher;
  /** Makes the API's view of a job, which is the body of its webhooks. */
  readonly readJob: (record: JobRecord) => Promise<Job>;
  readonly log: Logger;
  readonly metrics: Metrics;
  /** Lifetime of leases and of BullMQ's locks in milliseconds. */
  readonly lockMs: number;
}

export interface Part {
  /** Resolves when it is connected and takes work. */
  readonly ready?: () => Promise<unknown>;
  /** Takes no more work. Resolves when the running work has ended. */
  readonly close: () => Promise<unknown>;
  /** Gives up the work that still runs, after the time for the drain. */
  readonly end?: () => Promise<void>;
}
