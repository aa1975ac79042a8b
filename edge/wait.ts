/** `Prefer: wait=n` (RFC 7240): a reply that waits until the job ended, at most so many seconds. */
import { isTerminal } from "../shared/contract.ts";
import type { JobRecord } from "../shared/job.ts";
import { LIMITS } from "../shared/limits.ts";
import type { AppContext } from "./context.ts";
import { requireJob } from "./job-access.ts";

/** The job as it is after the wait that the request prefers, if it prefers any. @throws AppError not_found */
export async function afterWait(c: AppContext, record: JobRecord): Promise<JobRecord> {
  const seconds = preferredSeconds(c.req.header("prefer") ?? "");
  if (seconds === null) return record;
  c.header("Preference-Applied", `wait=${seconds}`);
  if (isTerminal(record.state)) return record;
  const { id, seq } = record;
  const signal = AbortSignal.any([c.req.raw.signal, AbortSignal.timeout(seconds * 1000)]);
  for await (const { type } of c.var.backend.follow(id, { after: seq, signal })) {
    if (type !== "tokens" && type !== "started" && isTerminal(type)) break;
  }
  return requireJob(c, id);
}

/** A preference that is not understood is ignored, as the standard asks. */
function preferredSeconds(header: string): number | null {
  const seconds = /(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])/i.exec(header)?.[1];
  return seconds === undefined ? null : Math.min(Number(seconds), LIMITS.waitSecondsMax);
}
