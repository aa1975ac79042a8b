/** Cancels the jobs of one line of a batch. */
import type { Job } from "../../shared/api/jobs.ts";
import { choiceIds } from "../../shared/jobs/ids.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import type { JobStore } from "../../shared/jobs/store.ts";
import type { WebhookPublisher } from "../../shared/webhooks/publisher.ts";
import { lineJobId } from "./line.ts";

export interface CancelDeps {
  readonly store: Pick<JobStore, "record" | "cancel">;
  readonly publisher: Pick<WebhookPublisher, "publishJobEnd">;
  readonly readJob: (record: JobRecord) => Promise<Job>;
}

/** @param line number of the line */
export async function cancelLineJobs(
  { store, publisher, readJob }: CancelDeps,
  batchId: string,
  line: number,
): Promise<void> {
  const first = await store.record(lineJobId(batchId, line));
  for (const id of first === null ? [] : choiceIds(first)) {
    if ((await store.cancel(id)) !== "cancelled") continue;
    const record = await store.record(id);
    if (record) await publisher.publishJobEnd(record, await readJob(record));
  }
}
