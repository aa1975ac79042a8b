/**
 * Putting a webhook on its queue. Edge and worker may both do it for the same job: the queue knows a delivery
 * by its id and keeps the first.
 */
import type { Job } from "./contract.ts";
import type { DeliveryPayload } from "./job.ts";
import { deliveryId, webhookBody } from "./webhook.ts";

/** Attempts and the delay before the second, doubled before each further one: about 68 minutes in all. */
const DELIVERY_ATTEMPTS = 13;
const DELIVERY_BACKOFF_MS = 1_000;
/** Seconds for which a delivered id is remembered, so that nobody queues it again. */
const DELIVERED_MEMORY_SECONDS = 3_600;

/** The part of a BullMQ queue that this needs. */
export interface DeliveryQueue {
  add(name: string, payload: DeliveryPayload, options: DeliveryOptions): Promise<unknown>;
}

interface DeliveryOptions {
  readonly jobId: string;
  readonly attempts: number;
  readonly backoff: {
    readonly type: "exponential";
    readonly delay: number;
    readonly jitter: number;
  };
  readonly removeOnComplete: { readonly age: number };
  readonly removeOnFail: { readonly age: number };
}

/** Queues the webhook of an ended job; does nothing if the job asked for none or it is queued already. */
export async function enqueueDelivery(
  queue: DeliveryQueue,
  tenant: string,
  job: Job,
): Promise<void> {
  if (!job.webhook) return;
  await queue.add(
    "webhook",
    { jobId: job.id, tenant, url: job.webhook.url, body: webhookBody(job) },
    {
      jobId: deliveryId(job.id),
      attempts: DELIVERY_ATTEMPTS,
      backoff: { type: "exponential", delay: DELIVERY_BACKOFF_MS, jitter: 0.2 },
      removeOnComplete: { age: DELIVERED_MEMORY_SECONDS },
      removeOnFail: { age: DELIVERED_MEMORY_SECONDS },
    },
  );
}
