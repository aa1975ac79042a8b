/** Waiting for a job's end: as long as the header `Prefer: wait=n` (RFC 7240) asks, or without a limit. */
import * as v from "valibot";
import { isTerminal } from "../../shared/api/jobs.ts";
import { LIMITS } from "../../shared/api/limits.ts";
import { field } from "../../shared/api/schema.ts";
import type { JobRecord } from "../../shared/jobs/record.ts";
import type { AppContext } from "../http/context.ts";
import type { ContractPart } from "../http/route.ts";
import { requireJob } from "./job-access.ts";

/** The contract part of routes that call `waitAsPreferred`. */
export const WAIT: ContractPart = {
  headers: {
    Prefer: field(
      v.optional(v.string()),
      `\`wait=n\`: the reply waits until the job has ended, for at most n seconds. The largest n is ${LIMITS.waitSecondsMax}. Other preferences are ignored.`,
      { examples: ["wait=30"] },
    ),
  },
  replyHeaders: {
    "Preference-Applied": field(
      v.string(),
      "The wait that the server applied. Absent if the request asks for none.",
      { examples: ["wait=30"] },
    ),
  },
};

/** Whether the request asks for a wait. */
export const prefersWait = (c: AppContext): boolean =>
  preferredSeconds(c.req.header("prefer") ?? "") !== null;

/** The job after the wait that the request asks for, or at once if it asks for none. @throws AppError not_found */
export async function waitAsPreferred(c: AppContext, record: JobRecord): Promise<JobRecord> {
  const seconds = preferredSeconds(c.req.header("prefer") ?? "");
  if (seconds === null) return record;
  c.header("Preference-Applied", `wait=${seconds}`);
  return waitForEnd(c, record, seconds * 1000);
}

/**
 * Waits until the job has ended or `timeoutMs` has passed, and returns it as it is then.
 * @throws AppError not_found if the job was deleted meanwhile
 */
export async function waitForEnd(
  c: AppContext,
  record: JobRecord,
  timeoutMs?: number,
): Promise<JobRecord> {
  if (isTerminal(record.state)) return record;
  const disconnected = c.req.raw.signal;
  const signal =
    timeoutMs === undefined
      ? disconnected
      : AbortSignal.any([disconnected, AbortSignal.timeout(timeoutMs)]);
  const ended = await c.var.stores.waitForEnd(record.id, { signal });
  return ended ?? requireJob(c, record.id);
}

/** Seconds, or null for none. A preference that is not understood is ignored, as the standard asks. */
function preferredSeconds(header: string): number | null {
  const seconds = /(?:^|[,;\s])wait\s*=\s*"?(\d{1,9})"?\s*(?:$|[,;])/i.exec(header)?.[1];
  return seconds === undefined ? null : Math.min(Number(seconds), LIMITS.waitSecondsMax);
}
