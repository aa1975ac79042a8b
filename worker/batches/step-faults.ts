/**
 * The handling of a step that throws, or is lost with its worker or its lock. While Redis or the bucket is out of order it is repeated for as long as that takes. Any other
 * error is a bug that would come again: it must not keep a batch open until its deadline.
 */
import { UnrecoverableError, type Job as QueueJob } from "bullmq";
import { isFailureReply } from "../../shared/redis/failure.ts";
import type { BatchStore } from "../../shared/batches/store.ts";
import { BucketError } from "../../shared/files/bucket.ts";

/** Data of the BullMQ job of a batch. */
export interface BatchJobData {
  readonly id: string;
  /** Steps in a row that failed unexpectedly. */
  readonly faults?: number;
  /** Steps in a row that were lost with their locks, and BullMQ's count of all lost ones when the last of them was noticed. */
  readonly losses?: number;
  readonly stalled?: number;
}
export type BatchQueueJob = Pick<QueueJob<BatchJobData>, "data" | "updateData" | "stalledCounter">;

/** Steps in a row that may be lost: the next line is probably why, and fails instead of being checked again. */
export const LOSSES_MAX = 3;

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
  await queueJob.updateData({ ...queueJob.data, faults });
  if (faults === FAULTS_MAX) await batches.fail(id, FAILURE);
  if (faults >= FAULTS_BEFORE_GIVING_UP_MAX) await giveUp(id);
  if (faults >= FAULTS_BEFORE_REMOVAL_MAX) {
    throw new UnrecoverableError("A batch was given up: its steps failed unexpectedly");
  }
}

/** Called before a step. @returns whether so many steps were lost that the next line must fail */
export async function recordLoss(queueJob: BatchQueueJob): Promise<boolean> {
  const { data, stalledCounter } = queueJob;
  const { losses = 0, stalled = 0 } = data;
  if (stalledCounter === stalled) return losses >= LOSSES_MAX;
  await queueJob.updateData({ ...data, losses: losses + 1, stalled: stalledCounter });
  return losses + 1 >= LOSSES_MAX;
}

/** Called after a step that did not throw. */
export async function clearFaults(queueJob: BatchQueueJob): Promise<void> {
  const { faults, losses, ...data } = queueJob.data;
  if (faults !== undefined || losses !== undefined) await queueJob.updateData(data);
}
