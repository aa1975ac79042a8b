/**
 * What happens when a step throws. While Redis or the bucket is out of order it is repeated for as long as that takes. Any other
 * error is a bug that would come again: it must not keep a batch open until its deadline.
 */
import { UnrecoverableError, type Job as QueueJob } from "bullmq";
import { isFailureReply } from "../../shared/redis/failure.ts";
import type { BatchStore } from "../../shared/batches/store.ts";
import { BucketError } from "../../shared/files/bucket.ts";

/** Data of the BullMQ job of a batch. `faults` counts the steps in a row that failed unexpectedly. */
export interface BatchJobData {
  readonly id: string;
  readonly faults?: number;
}
export type BatchQueueJob = Pick<QueueJob<BatchJobData>, "data" | "updateData">;

/** Faults in a row after which the batch fails. Steps are repeated after 5 s. */
export const FAULTS_MAX = 5;
/** The batch cannot be ended in the usual way either: it is given up, without its result files. */
const FAULTS_BEFORE_GIVING_UP_MAX = 2 * FAULTS_MAX;
/** Nothing helps: the batch leaves the queue. */
const FAULTS_BEFORE_REMOVAL_MAX = 3 * FAULTS_MAX;

const FAILURE = { code: "internal", message: "An internal error stopped the batch" };

/** Whether the error comes from a Redis or a bucket that does not work now. */
export function isOutage(error: unknown): boolean {
  if (error instanceof BucketError) return true;
  if (!(error instanceof Error)) return false;
  if (error.name === "ReplyError") return isFailureReply(error.message);
  return error.message === "Connection is closed.";
}

/**
 * Called after a step that threw.
 * @param giveUp ends a batch although its steps fail
 * @throws UnrecoverableError if the batch must leave the queue
 */
export async function recordFault(
  batches: Pick<BatchStore, "fail">,
  giveUp: (id: string) => Promise<void>,
  queueJob: BatchQueueJob,
  error: unknown,
): Promise<void> {
  if (isOutage(error)) return;
  const { id } = queueJob.data;
  const faults = (queueJob.data.faults ?? 0) + 1;
  await queueJob.updateData({ id, faults });
  if (faults === FAULTS_MAX) await batches.fail(id, FAILURE);
  if (faults >= FAULTS_BEFORE_GIVING_UP_MAX) await giveUp(id);
  if (faults >= FAULTS_BEFORE_REMOVAL_MAX) {
    throw new UnrecoverableError("A batch was given up: its steps failed unexpectedly");
  }
}

/** Called after a step that did not throw. */
export async function clearFaults(queueJob: BatchQueueJob): Promise<void> {
  const { id, faults } = queueJob.data;
  if (faults !== undefined) await queueJob.updateData({ id });
}
