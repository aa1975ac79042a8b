/** A batch as it is put on its queue, from either side. */

/** Between the attempts of a step that fails: Redis or the bucket is away, and comes back. */
const RETRY_MS = 5_000;

/** Idempotent: the queue knows a batch by its id. */
export function batchQueueJob(id: string) {
  return {
    name: "batch",
    data: { id },
    opts: {
      jobId: id,
      attempts: Number.MAX_SAFE_INTEGER,
      backoff: { type: "fixed", delay: RETRY_MS },
      removeOnComplete: true,
      removeOnFail: true,
    },
  } as const;
}
