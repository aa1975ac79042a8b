/** The body of a webhook, after Standard Webhooks: `type`, `timestamp`, `data`. */
import type { Job } from "./contract.ts";
import { LIMITS } from "./limits.ts";

/** A webhook's id is the job's, so that every attempt, from whichever process, carries the same. */
export const deliveryId = (jobId: string) => jobId.replace(/^job_/, "msg_");

/** JSON body announcing an ended job; a text too long for a webhook is left out and can be read from the job. */
export function webhookBody(job: Job): string {
  const { webhook: _, ...data } = job;
  const body = (of: object) =>
    JSON.stringify({
      type: `job.${job.state}`,
      timestamp: new Date((job.ended_at ?? job.created_at) * 1000).toISOString(),
      data: of,
    });
  const whole = body(data);
  if (new TextEncoder().encode(whole).length <= LIMITS.webhookBodyBytesMax) return whole;
  return body({
    ...data,
    metadata: data.metadata,
    output: { ...data.output, text: null },
    output_omitted: true,
  });
}
