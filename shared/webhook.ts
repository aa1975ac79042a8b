/** The body of a webhook, after Standard Webhooks: `type`, `timestamp`, `data`. */
import type { Job } from "./contract.ts";
import { LIMITS } from "./limits.ts";

/** A webhook's id is the job's, so that every attempt, from whichever process, carries the same. */
export const deliveryId = (jobId: string) => jobId.replace(/^job_/, "msg_");

/**
 * JSON body announcing an ended job. What is too long for a webhook is left out and can be read from the job: first what
 * is told of each token, then the text.
 */
export function webhookBody(job: Job): string {
  const { webhook: _, ...data } = job;
  const body = (of: object) =>
    JSON.stringify({
      type: `job.${job.state}`,
      timestamp: new Date((job.ended_at ?? job.created_at) * 1000).toISOString(),
      data: of,
    });
  const { text, finish_reason } = data.output;
  const bodies = [
    body(data),
    body({ ...data, output: { text, finish_reason }, output_omitted: true }),
  ];
  const fits = (candidate: string) =>
    new TextEncoder().encode(candidate).length <= LIMITS.webhookBodyBytesMax;
  return (
    bodies.find(fits) ??
    body({ ...data, output: { text: null, finish_reason }, output_omitted: true })
  );
}
