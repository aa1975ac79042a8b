/**
 * Permits to run a job, as many as there are jobs, put on BullMQ's queue by either side. Which job each is for is decided
 * when a worker takes it (fair-script.ts).
 */

/** How often a job is run whose run throws; a job whose worker is lost is counted by the claim, in the worker. */
const ATTEMPTS = 3;
const BACKOFF_MS = 1_000;

/** A permit as its worker holds it. */
export interface Permit {
  readonly id: string;
  /** Under which BullMQ locked it for this worker; another has it once the lock is another's. */
  readonly token: string;
}

/** The part of a BullMQ queue that this needs. */
export interface GenerationQueue {
  add(name: string, payload: object, options: QueueOptions): Promise<unknown>;
}

interface QueueOptions {
  readonly jobId: string;
  readonly attempts: number;
  readonly backoff: { readonly type: "exponential"; readonly delay: number };
  readonly removeOnComplete: true;
  readonly removeOnFail: true;
}

/** Idempotent: the queue knows a permit by its id, that of a job. */
export async function enqueue(queue: GenerationQueue, jobIds: readonly string[]): Promise<void> {
  const options = {
    attempts: ATTEMPTS,
    backoff: { type: "exponential", delay: BACKOFF_MS },
    removeOnComplete: true,
    removeOnFail: true,
  } as const;
  await Promise.all(jobIds.map((id) => queue.add("generate", {}, { ...options, jobId: id })));
}
