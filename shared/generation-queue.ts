/** Putting jobs on the generation queue, from either side. */

/** How often a job is run whose run throws; a job whose worker is lost is counted by the claim, in the worker. */
const ATTEMPTS = 3;
const BACKOFF_MS = 1_000;
/** BullMQ takes what has no priority first: a batch's jobs run when no other waits. */
const BATCH_PRIORITY = 1;

/** The part of a BullMQ queue that this needs. */
export interface GenerationQueue {
  add(name: string, payload: { readonly id: string }, options: QueueOptions): Promise<unknown>;
}

interface QueueOptions {
  readonly jobId: string;
  readonly attempts: number;
  readonly backoff: { readonly type: "exponential"; readonly delay: number };
  readonly removeOnComplete: true;
  readonly removeOnFail: true;
  readonly priority?: number;
}

/** Idempotent: the queue knows a job by its id. */
export async function enqueue(
  queue: GenerationQueue,
  jobIds: readonly string[],
  kind: "interactive" | "batch",
): Promise<void> {
  const options = {
    attempts: ATTEMPTS,
    backoff: { type: "exponential", delay: BACKOFF_MS },
    removeOnComplete: true,
    removeOnFail: true,
    ...(kind === "batch" && { priority: BATCH_PRIORITY }),
  } as const;
  await Promise.all(jobIds.map((id) => queue.add("generate", { id }, { ...options, jobId: id })));
}
