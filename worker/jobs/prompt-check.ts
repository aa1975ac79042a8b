/** Checks the prompt of a job that waits, and ends the job if its prompt is refused (shared/workers/prompt-checks.ts). */
import type { ErrorCode } from "../../shared/api/error-codes.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import type { JobStore } from "../../shared/jobs/store.ts";
import type { EngineClient } from "../engine-client/client.ts";

export interface PromptCheckDeps {
  readonly store: Pick<JobStore, "record" | "endWithError">;
  readonly engine: Pick<EngineClient, "prepare">;
}

/** Every worker with the same models would give these. A model that this worker lacks may be served by another one. */
const FINAL_CODES: ReadonlySet<ErrorCode> = new Set(["context_length_exceeded", "invalid_request"]);

/**
 * @returns the ended job's record; null if its prompt is not refused, or if the job does not wait any more
 * @throws Error if the prepare thread or Redis fails
 */
export async function endIfRefused(
  { store, engine }: PromptCheckDeps,
  jobId: string,
): Promise<JobRecord | null> {
  const record = await store.record(jobId);
  if (record === null || record.state !== "queued" || record.attempt > 0) return null;
  const { tenant, generation, createdAtMs } = record;
  const refusal = await engine.prepare(tenant, generation, createdAtMs);
  if (refusal === null || !FINAL_CODES.has(refusal.code)) return null;
  const ended = await store.endWithError(record, "failed", refusal);
  // Its client may have cancelled it meanwhile.
  return ended?.state === "failed" ? ended : null;
}
