/**
 * The ids of a job in the protocols. One job is `job_X`, `resp_X`, `chatcmpl-job_X` and `cmpl-job_X`: it can be read by each
 * of these ids, no matter which protocol it was submitted with.
 */
import type { NewJob } from "./record.ts";

export const responseId = (jobId: string) => jobId.replace(/^job_/, "resp_");
/** The id of the webhook message about the job's end. */
export const messageId = (jobId: string) => jobId.replace(/^job_/, "msg_");
/** The job id for an id of any protocol. */
export const toJobId = (id: string) => id.replace(/^(resp_|(chat)?cmpl-job_)/, "job_");

/** The id of a request's k-th job (from 0). @param jobId of its first job */
export const choiceId = (jobId: string, k: number) => (k === 0 ? jobId : `${jobId}-${k}`);

/** The number of a job within its request, and the id of the request's first job. */
export function choiceOf(jobId: string): { readonly firstId: string; readonly k: number } {
  const [, firstId, k] = /^(job_[^-]*)-(\d+)$/.exec(jobId) ?? [];
  return { firstId: firstId ?? jobId, k: Number(k ?? 0) };
}

/** The ids of all jobs of a request. @param firstJob its first or only job */
export function choiceIds(firstJob: Pick<NewJob, "id" | "requestOptions">): string[] {
  const { id, requestOptions } = firstJob;
  return Array.from({ length: requestOptions.choices ?? 1 }, (_, k) => choiceId(id, k));
}
