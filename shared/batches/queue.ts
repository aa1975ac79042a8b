/** The BullMQ job of a batch. The edge adds it when the batch is created. A worker adds it again if it is missing. */

/** Delay before a failed step is repeated: Redis or the bucket was not available. */
const RETRY_MS = 5_000;

/** The arguments of `queue.add`. Adding is idempotent: the BullMQ job's id is the batch's id, and BullMQ adds an id once. */
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
