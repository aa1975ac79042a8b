/**
 * Jobs under the names that the protocols give them. One job is `job_X`, `resp_X`, `chatcmpl-job_X` and `cmpl-job_X`:
 * any of these names reads it, in whatever protocol it was asked for.
 */
import type { NewJob } from "./job.ts";

export const responseId = (jobId: string) => jobId.replace(/^job_/, "resp_");
export const messageId = (jobId: string) => jobId.replace(/^job_/, "msg_");
export const jobIdOf = (name: string) => name.replace(/^(resp_|(chat)?cmpl-job_)/, "job_");

/** Id of a request's k-th job, by that of its first. */
export const choiceId = (jobId: string, k: number) => (k === 0 ? jobId : `${jobId}-${k}`);

/** Ids of all jobs of the request whose first (or only) job this is. */
export function choiceIds({ id, asked }: Pick<NewJob, "id" | "asked">): string[] {
  return Array.from({ length: asked.choices ?? 1 }, (_, k) => choiceId(id, k));
}
