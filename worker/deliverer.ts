/**
 * Delivers webhooks, signed after Standard Webhooks. BullMQ keeps and repeats what fails; every attempt has the same
 * id and body, its own timestamp, and is recorded on the job.
 */
import { UnrecoverableError, Worker, type Job as QueueJob } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import { Webhook } from "standardwebhooks";
import * as v from "valibot";
import type { Delivery } from "../shared/contract.ts";
import { DeliveryPayload } from "../shared/job.ts";
import type { JobStore } from "../shared/job-store.ts";
import { DELIVERY_QUEUE, QUEUE_PREFIX, tenantKey } from "../shared/redis-keys.ts";
import { deliveryId } from "../shared/webhook.ts";

/** A receiver has this long to answer; the spec recommends 15 to 30 s. */
const RECEIVER_TIMEOUT_MS = 15_000;
/** Deliveries on their way at once, per worker. */
const CONCURRENCY = 16;

export interface DelivererDeps {
  readonly connection: Redis;
  readonly store: JobStore;
  readonly log: Logger;
}

export function startDeliverer(deps: DelivererDeps): Worker {
  const worker = new Worker(DELIVERY_QUEUE, (queueJob: QueueJob) => deliver(deps, queueJob), {
    connection: deps.connection,
    prefix: QUEUE_PREFIX,
    concurrency: CONCURRENCY,
  });
  worker.on("error", (error) => deps.log.warn({ reason: error.message }, "delivery queue"));
  return worker;
}

async function deliver(
  { connection, store, log }: DelivererDeps,
  queueJob: QueueJob,
): Promise<void> {
  const payload = v.parse(DeliveryPayload, queueJob.data);
  const secret = await connection.hget(tenantKey(payload.tenant), "webhookSecret");
  if (!secret) throw new UnrecoverableError("the tenant has no webhook secret");
  const delivery = await post(payload, secret, queueJob.attemptsMade + 1);
  await store.recordDelivery(payload.jobId, delivery);
  log.info({ job: payload.jobId, ...delivery }, "webhook attempt");
  if (delivery.status === null || delivery.status < 200 || delivery.status > 299) {
    throw new Error(delivery.error ?? `the receiver answered ${delivery.status}`);
  }
}

/** One signed POST. A redirect counts as an answer and is never followed: it could lead anywhere. */
async function post(
  { jobId, url, body }: DeliveryPayload,
  secret: string,
  attempt: number,
): Promise<Delivery> {
  const id = deliveryId(jobId);
  const sentAt = new Date();
  const headers = {
    "content-type": "application/json",
    "user-agent": "trimtab",
    "webhook-id": id,
    "webhook-timestamp": String(Math.floor(sentAt.getTime() / 1000)),
    "webhook-signature": new Webhook(secret).sign(id, sentAt, body),
  };
  const about = (status: number | null, error: string | null): Delivery => ({
    attempt,
    at: sentAt.getTime() / 1000,
    status,
    error,
    duration_ms: Date.now() - sentAt.getTime(),
  });
  try {
    const signal = AbortSignal.timeout(RECEIVER_TIMEOUT_MS);
    const reply = await fetch(url, { method: "POST", headers, body, signal, redirect: "manual" });
    await reply.body?.cancel();
    return about(reply.status, null);
  } catch (error) {
    return about(null, whyUnanswered(error));
  }
}

function whyUnanswered(error: unknown): string {
  if (error instanceof DOMException && error.name === "TimeoutError") {
    return `no answer within ${RECEIVER_TIMEOUT_MS / 1000} s`;
  }
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
  return code || (cause instanceof Error ? cause.message : String(cause));
}
