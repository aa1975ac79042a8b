/**
 * Sees to it that there are as many permits as jobs that wait. Whoever submits a job writes its record first and its permit
 * next, and may die in between: then that job takes the permit of a later one, which would wait for ever.
 */
import type { Queue } from "bullmq";
import type { Logger } from "pino";
import type { FairQueue } from "../shared/fair-queue.ts";
import { enqueue } from "../shared/generation-queue.ts";

const LOOK_MS = 2_000;
/** Jobs that get a permit at once; more than these wait for the next look. */
const JOBS_MAX = 100;

export interface PermitDeps {
  readonly queue: Pick<FairQueue, "waiting">;
  readonly generations: Pick<Queue, "getJobCountByTypes" | "add">;
  readonly log: Logger;
}

/** @returns a function that stops the looking */
export function startPermits({ log, ...deps }: PermitDeps): () => void {
  const look = () =>
    restorePermits(deps).catch((error: unknown) => log.warn({ err: error }, "permits"));
  const timer = setInterval(() => void look(), LOOK_MS);
  return () => clearInterval(timer);
}

/** A permit too many does no harm: its worker finds no job for it. */
export async function restorePermits({
  queue,
  generations,
}: Omit<PermitDeps, "log">): Promise<void> {
  const ids = await queue.waiting(JOBS_MAX);
  if (ids.length === 0) return;
  // What waits for another attempt is counted, although it has a job: when it is gone, we look again.
  const permits = await generations.getJobCountByTypes("wait", "prioritized", "delayed");
  if (permits < ids.length) await enqueue(generations, ids);
}
