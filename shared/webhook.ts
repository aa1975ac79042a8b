/** The message that a webhook carries, after Standard Webhooks: `type`, `timestamp`, `data`. */
import { newId } from "./api-key.ts";
import type { Batch } from "./batch-contract.ts";
import type { Job } from "./contract.ts";
import type { Asked } from "./job.ts";
import { LIMITS } from "./limits.ts";

/** What is announced: every receiver, at every attempt, gets this id and this body. */
export interface Message {
  readonly id: string;
  readonly type: string;
  readonly body: string;
  /** Null for a batch or a test. */
  readonly jobId: string | null;
  /** The request that it comes from, for logs and traces. */
  readonly origin?: Origin;
}

export type Origin = Pick<Asked, "requestId" | "traceparent">;

/** An ended job has one message, and its id is the job's: whichever process announces it, it is the same. */
export const messageIdOf = (jobId: string) => jobId.replace(/^job_/, "msg_");

/** Where a message goes, as a part of the delivery's id: an endpoint, or the URL that the job named. */
export const JOB_URL = "job";
export const deliveryIdOf = (messageId: string, endpointId: string | null) =>
  `${messageId}-${endpointId ?? JOB_URL}`;

/** A delivery's message and endpoint (or JOB_URL), from its id; a message's id may have hyphens, an endpoint's has none. */
export function partsOf(deliveryId: string): { messageId: string; endpointId: string } {
  const at = deliveryId.lastIndexOf("-");
  return { messageId: deliveryId.slice(0, at), endpointId: deliveryId.slice(at + 1) };
}

/**
 * Announces an ended job. What is too long for a webhook is left out and can be read from the job: first what is told of
 * each token, then the text.
 */
export function jobMessage(job: Job, withOutput = true): Message {
  const { webhook: _, ...data } = job;
  const type = `job.${job.state}`;
  const at = new Date((job.ended_at ?? job.created_at) * 1000);
  const { text, finish_reason } = data.output;
  const body = (output: object) => bodyOf(type, at, { ...data, output, output_omitted: true });
  const bodies = withOutput ? [bodyOf(type, at, data), body({ text, finish_reason })] : [];
  const fits = (candidate: string) =>
    new TextEncoder().encode(candidate).length <= LIMITS.webhookBodyBytesMax;
  return {
    id: messageIdOf(job.id),
    type,
    body: bodies.find(fits) ?? body({ text: null, finish_reason }),
    jobId: job.id,
  };
}

/** Announces an ended batch; its files are read by their ids. */
export function batchMessage(batch: Batch): Message {
  const type = `batch.${batch.status}`;
  return { id: `msg_${batch.id}`, type, body: bodyOf(type, new Date(), batch), jobId: null };
}

/** A message that tells of nothing, to try a receiver out. */
export function testMessage(endpointId: string): Message {
  const type = "webhook.test";
  const body = bodyOf(type, new Date(), { endpoint: endpointId });
  return { id: newId("msg"), type, body, jobId: null };
}

function bodyOf(type: string, at: Date, data: object): string {
  return JSON.stringify({ type, timestamp: at.toISOString(), data });
}
