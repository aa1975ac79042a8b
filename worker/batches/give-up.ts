/** The end of a batch that cannot be ended by its steps, because they fail: nothing of it may go on or keep taking room. */
import type { Logger } from "pino";
import { isEnded, type BatchStore } from "../../shared/batches/store.ts";
import { cancelLineJobs, type CancelDeps } from "./cancel-line.ts";
import type { BatchResultFiles } from "./result-files.ts";
import { isOutage } from "./step-faults.ts";

export interface GiveUpDeps extends CancelDeps {
  readonly batches: Pick<BatchStore, "get" | "openLines" | "end">;
  readonly resultFiles: Pick<BatchResultFiles, "discard">;
  readonly log: Pick<Logger, "error">;
}

/**
 * Cancels the jobs of a batch, deletes its incomplete result files and ends it as failed. What fails because of a bug is logged
 * and left; during an outage it throws, and may be called again.
 */
export async function giveUpBatch(deps: GiveUpDeps, id: string): Promise<void> {
  const { batches, resultFiles, log } = deps;
  const batch = await batches.get(id);
  if (batch === null || isEnded(batch)) return;
  const attempt = async (action: Promise<void>) => {
    try {
      await action;
    } catch (error) {
      if (isOutage(error)) throw error;
      log.error({ batch: id, err: error }, "A part of a batch that was given up remains");
    }
  };
  for (const line of (await batches.openLines(id)).keys())
    await attempt(cancelLineJobs(deps, id, line));
  await attempt(resultFiles.discard(batch));
  await batches.end(batch, "failed");
}
