/**
 * The cost of a request for Redis while many jobs wait: the same operations in turns on an empty queue and on a deep one. Each time is
 * that of the commands of one request, sent over a local connection without the edge.
 */
import type { Redis } from "ioredis";
import { connectRedis, startRedis } from "../../../infra/stack/redis.ts";
import { JobStore } from "../../../shared/jobs/store.ts";
import { jobSources, readJob } from "../../../shared/protocols/job-reply.ts";
import { QueueEstimate } from "../../../shared/queue/queue-estimate.ts";
import { generation, newJob } from "../../support/generation.ts";
import { quantile } from "../statistics.ts";

export const DEEP_JOBS = 100_000;
export const DEEP_TENANTS = 1_000;
/** Times that each operation is measured. */
const TIMES = 400;
/** Submissions that are sent without waiting for each other while the queue is filled. */
const FILL_AT_ONCE = 500;

export interface DeepQueueRow {
  readonly name: string;
  /** Median microseconds on an empty and on a deep queue. */
  readonly emptyUs: number;
  readonly deepUs: number;
}

export async function measureDeepQueue(): Promise<DeepQueueRow[]> {
  const [empty, deep] = await Promise.all([openQueue(0), openQueue(DEEP_JOBS)]);
  const rows: DeepQueueRow[] = [];
  for (const name of ["submit", "poll", "quote", "cancel"] as const) {
    const times = { empty: [] as number[], deep: [] as number[] };
    for (let i = 0; i < TIMES; i++) {
      const measureEmpty = async () => times.empty.push(await microseconds(empty.operations[name]));
      const measureDeep = async () => times.deep.push(await microseconds(deep.operations[name]));
      // The second of two finds the processor awake, so they take turns in being first.
      const inTurn = i % 2 === 0 ? [measureEmpty, measureDeep] : [measureDeep, measureEmpty];
      for (const measure of inTurn) await measure();
    }
    const median = (values: number[]) =>
      quantile(
        values.toSorted((a, b) => a - b),
        0.5,
      );
    rows.push({ name, emptyUs: median(times.empty), deepUs: median(times.deep) });
  }
  empty.close();
  deep.close();
  return rows;
}

async function microseconds(run: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await run();
  return (performance.now() - startedMs) * 1000;
}

/** A Redis in which so many jobs wait. */
async function openQueue(jobs: number) {
  const server = await startRedis();
  const redis = await connectRedis(server.url);
  const store = new JobStore(redis, 3_600_000);
  for (let i = 0; i < jobs; i += FILL_AT_ONCE) {
    await Promise.all(Array.from({ length: FILL_AT_ONCE }, (_, k) => submit(store, i + k)));
  }
  return {
    operations: operationsOf(redis, store),
    close: () => {
      redis.disconnect();
      void server.stop();
    },
  };
}

async function submit(store: JobStore, i: number): Promise<string> {
  const job = newJob({ tenant: `tenant-${i % DEEP_TENANTS}`, deadlineInMs: 3_600_000 });
  const tokens = [100 + (i % 400)];
  await store.submitAll([job], { pools: [], tokens, idempotency: null });
  return job.id;
}

/** The commands that the edge sends to Redis for each kind of request. */
function operationsOf(redis: Redis, store: JobStore) {
  const estimate = new QueueEstimate(redis);
  const sources = jobSources(redis, store);
  const submitted: string[] = [];
  let count = 0;
  return {
    submit: async () => void submitted.push(await submit(store, count++)),
    poll: async () =>
      readJob((await store.record(submitted[count++ % submitted.length]!))!, sources),
    quote: () => estimate.forNewJob(generation(), `tenant-${count++ % DEEP_TENANTS}`, 0),
    cancel: () => store.cancel(submitted.pop()!),
  };
}
