/**
 * Does for jobs what nobody did: expires those whose deadline has passed while no worker had them, and announces those
 * that ended without it, because whoever ended them died or Redis was full. A running job is its worker's to expire; only
 * when that is long overdue was there none.
 */
import { isTerminal } from "../shared/contract.ts";
import type { Logger } from "pino";
import type { Announcer } from "../shared/announcer.ts";
import type { JobStore } from "../shared/job-store.ts";
import { lateError } from "./run-job.ts";

const SWEEP_INTERVAL_MS = 1_000;
const JOBS_PER_SWEEP_MAX = 100;
/** A worker expires its own jobs in time; after this long past the deadline, nobody has them. */
const RUNNING_OVERDUE_MS = 60_000;

export interface SweeperDeps {
  readonly store: JobStore;
  readonly announcer: Pick<Announcer, "ended">;
  readonly log: Logger;
}

/** @returns a function that stops the sweeping */
export function startSweeper({ log, ...deps }: SweeperDeps): () => void {
  let sweeping = false;
  const timer = setInterval(() => {
    if (sweeping) return;
    sweeping = true;
    sweep(deps)
      .catch((error: unknown) => log.warn({ err: error }, "sweep"))
      .finally(() => (sweeping = false));
  }, SWEEP_INTERVAL_MS);
  return () => clearInterval(timer);
}

async function sweep(deps: Omit<SweeperDeps, "log">): Promise<void> {
  const ids = await deps.store.due(Date.now(), JOBS_PER_SWEEP_MAX);
  const done = await Promise.allSettled(ids.map((id) => settle(deps, id)));
  const failed = done.find((each) => each.status === "rejected");
  if (failed) throw failed.reason;
}

async function settle({ store, announcer }: Omit<SweeperDeps, "log">, id: string): Promise<void> {
  const record = await store.record(id);
  if (!record) return store.settle(id);
  const { state, deadlineMs } = record;
  const isLost = state === "queued" || deadlineMs + RUNNING_OVERDUE_MS < Date.now();
  if (!isTerminal(state) && !isLost) return;
  const ended = isTerminal(state)
    ? record
    : await store.giveUp(record, "expired", lateError(record));
  if (ended) await announcer.ended(ended, await store.view(ended));
}
