/** Waiting for a job's end; `Prefer: wait=n` (RFC 7240) lets any reply wait so, at most so many seconds. */
import { isEnd, isTerminal } from "../shared/contract.ts";
import type { JobRecord } from "../shared/job.ts";
import { LIMITS } from "../shared/limits.ts";
import type { AppContext } from "./context.ts";
import { requireJob } from "./job-access.ts";

/** The job as it is after the wait that the request prefers, if it prefers any. @throws AppError not_found */
export async function afterWait(c: AppContext, record: JobRecord): Promise<JobRecord> {
  const seconds = preferredSeconds(c.req.header("prefer") ?? "");
  if (seconds === null) return record;
  c.header("Preference-Applied", `wait=${seconds}`);
  return whenEnded(c, record, seconds * 1000);
}

/** The job as it is when it ended, or at the latest after so many milliseconds. @throws AppError not_found */
export async function whenEnded(c: AppContext, record: JobRecord, ms?: number): Promise<JobRecord> {
  if (isTerminal(record.state)) return record;
  const { id, seq } = record;
  const gone = c.req.raw.signal;
  const signal = ms === undefined ? gone : AbortSignal.any([gone, AbortSignal.timeout(ms)]);
  for await (const event of c.var.backend.follow(id, { after: seq, signal })) {
    if (isEnd(event)) break;
  }
  return requireJob(c, id);
}

/** A preference that is not understood is ignored, as the standard asks. */
function preferredSeconds(header: string): number | null {
  const seconds = /(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])/i.exec(header)?.[1];
  return seconds === undefined ? null : Math.min(Number(seconds), LIMITS.waitSecondsMax);
}
