/**
 * Repairs the queue: a queued job that is in no lane, and a running one without a lease. No step of this release leaves such a job:
 * each script changes a job and the queue together. They come from an earlier release, which queued jobs elsewhere, or from
 * keys that were lost. What jobs count towards is corrected by recount.ts. Every job that has not ended is in the due set, so the repair goes through it, page by page.
 */
import { Queue } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import type { JobStore } from "../../shared/jobs/store.ts";
import { Recount } from "./recount.ts";
import { DUE_KEY, OLD_QUEUE, TAG } from "../../shared/redis/keys.ts";
import { commandsOf, tagOf } from "../../shared/redis/tags.ts";

const INTERVAL_MS = 1_000;
const PAGE = 200;

export interface QueueRepairDeps {
  readonly connection: Redis;
  readonly store: Pick<JobStore, "repair">;
  readonly log: Logger;
}

/** Repairs one page a second. @returns a function that stops the repair */
export function startQueueRepair({ log, ...deps }: QueueRepairDeps): () => void {
  let offset = 0;
  const recount = new Recount(commandsOf(deps.connection));
  let isRunning = false;
  const timer = setInterval(() => {
    if (isRunning) return;
    isRunning = true;
    repairStep(deps, offset)
      .then((next) => (offset = next))
      .then(() => recount.step())
      .catch((error: unknown) => log.warn({ err: error }, "Could not repair the queue"))
      .finally(() => (isRunning = false));
  }, INTERVAL_MS);
  return () => clearInterval(timer);
}

/** @returns the offset of the next page */
async function repairStep(deps: Omit<QueueRepairDeps, "log">, offset: number): Promise<number> {
  if (await hasOldQueue(deps.connection)) {
    await assignOldQueue(deps);
    return 0;
  }
  return (await repairPage(deps, offset)) ?? 0;
}

/** @returns the offset of the next page; null after the last one */
async function repairPage(
  { connection, store }: Omit<QueueRepairDeps, "log">,
  offset: number,
): Promise<number | null> {
  const ids = await commandsOf(connection).zrange(DUE_KEY, offset, String(offset + PAGE - 1));
  if (ids.length === 0) return null;
  await store.repair(ids);
  return offset + PAGE;
}

/** That release had one tag. */
const hasOldQueue = async (connection: Redis) =>
  tagOf(connection) === TAG &&
  (await connection.exists(OLD_QUEUE.counters, `${TAG}:${OLD_QUEUE.queue}:meta`)) > 0;

/** Assigns all jobs to lanes at once, so that they do not wait for their page, and deletes the keys of the old queue. */
async function assignOldQueue(deps: Omit<QueueRepairDeps, "log">): Promise<void> {
  const { connection } = deps;
  const { flow, queue: name, ...keys } = OLD_QUEUE;
  const flows = await connection.zrange(keys.waitingFlows, "0", "-1");
  for (let offset: number | null = 0; offset !== null;) offset = await repairPage(deps, offset);
  await connection.del(...Object.values(keys), ...flows.map((each) => flow + each));
  const queue = new Queue(name, { connection, prefix: TAG, skipMetasUpdate: true });
  queue.on("error", () => {});
  await queue.obliterate({ force: true });
}
