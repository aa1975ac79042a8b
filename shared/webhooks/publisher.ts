/**
 * Publishes webhook messages: a message is appended to the tenant's inbox, and a delivery is queued for each of its
 * receivers. The edge and workers may publish the same message, and a process may crash while publishing. Every step is
 * idempotent, so publishing a message again makes up for the steps that are missing.
 */
import type { Batch } from "../api/batches.ts";
import type { Job } from "../api/jobs.ts";
import { LIMITS } from "../api/limits.ts";
import { DeliveryStore } from "./delivery-store.ts";
import { EndpointStore, type Endpoint } from "./endpoint-store.ts";
import { InboxStore } from "./inbox-store.ts";
import { choiceOf } from "../jobs/ids.ts";
import type { JobRecord, RequestOptions } from "../jobs/record.ts";
import type { DeliveryPayload } from "./delivery-store.ts";
import type { RedisClient } from "../redis/client.ts";
import { DUE_KEY, jobKey } from "../redis/keys.ts";
import { RETRY_DELAYS_MS } from "./retry-schedule.ts";
import {
  batchMessage,
  jobMessage,
  deliveryIdParts,
  messageIds,
  responseMessage,
  testMessage,
  type WebhookMessage,
} from "./message.ts";
import type { WebhookEvent } from "../api/webhooks.ts";

/** The part of a BullMQ queue that is used here. */
export interface DeliveryQueue {
  add(name: string, payload: DeliveryPayload, options: DeliveryOptions): Promise<unknown>;
}

interface DeliveryOptions {
  readonly jobId: string;
  readonly attempts: number;
  readonly backoff: { readonly type: "custom" };
  readonly removeOnComplete: true;
  readonly removeOnFail: true;
}

/** An endpoint, or (null) the webhook URL of a job. */
type Receiver = { readonly endpointId: string | null; readonly url: string };

export class WebhookPublisher {
  readonly #redis: RedisClient;
  readonly #queue: DeliveryQueue;
  readonly #endpoints: EndpointStore;
  readonly #deliveries: DeliveryStore;
  readonly #inbox: InboxStore;

  constructor(redis: RedisClient, queue: DeliveryQueue) {
    this.#redis = redis;
    this.#queue = queue;
    this.#endpoints = new EndpointStore(redis);
    this.#deliveries = new DeliveryStore(redis);
    this.#inbox = new InboxStore(redis);
  }

  /** Publishes the end of a job. The job's record must already say that it has ended. */
  async publishJobEnd(
    { tenant, requestOptions }: Pick<JobRecord, "tenant" | "requestOptions">,
    job: Job,
  ): Promise<void> {
    const { requestId, traceparent, store, protocol } = requestOptions;
    const origin = { ...(requestId && { requestId }), ...(traceparent && { traceparent }) };
    // Messages are kept for days, but the output of a job with `store: false` only for minutes.
    const message = { ...jobMessage(job, store !== false), origin };
    const jobReceivers = job.webhook ? [{ endpointId: null, url: job.webhook.url }] : [];
    if (!(await this.#isOneOfMany(job.id, requestOptions))) {
      await this.#publish(tenant, message, jobReceivers);
      if (protocol === "responses") {
        await this.#publish(tenant, { ...responseMessage(job), origin }, jobReceivers);
      }
    } else await this.#deliverAll(tenant, message, jobReceivers);
    await this.#redis.zrem(DUE_KEY, job.id);
  }

  /**
   * Whether a job is a line of a batch, whose end is published instead, or belongs to a request with so many jobs that they would
   * displace all other messages.
   */
  async #isOneOfMany(id: string, { batch, choices = 1 }: RequestOptions): Promise<boolean> {
    if (batch !== undefined || choices > LIMITS.choicesMax) return true;
    const { firstId, k } = choiceOf(id);
    if (k === 0 || k >= LIMITS.choicesMax) return k > 0;
    const stored = await this.#redis.hget(jobKey(firstId), "requestOptions");
    const first = JSON.parse(stored ?? "{}") as Pick<RequestOptions, "choices">;
    return (first.choices ?? 1) > LIMITS.choicesMax;
  }

  /** Publishes the end of a batch. The batch's record must already say that it has ended. */
  async publishBatchEnd(tenant: string, batch: Batch): Promise<void> {
    await this.#publish(tenant, batchMessage(batch), []);
  }

  /** Publishes to the inbox, to every endpoint that subscribes to the event, and to the other receivers given. */
  async #publish(
    tenant: string,
    message: WebhookMessage,
    others: readonly Receiver[],
  ): Promise<void> {
    const [endpoints] = await Promise.all([
      this.#endpoints.list(tenant),
      this.#inbox.append(tenant, message),
    ]);
    const receivers: Receiver[] = endpoints
      .filter((endpoint) => isSubscribed(endpoint, message.type as WebhookEvent))
      .map(({ id, url }) => ({ endpointId: id, url }));
    await this.#deliverAll(tenant, message, [...receivers, ...others]);
  }

  async #deliverAll(tenant: string, message: WebhookMessage, receivers: readonly Receiver[]) {
    await Promise.all(receivers.map((receiver) => this.#deliver(tenant, message, receiver)));
  }

  /** Deletes the messages about a deleted job. Deliveries that are pending are not sent any more. */
  async deleteJobMessages(tenant: string, jobId: string): Promise<void> {
    const ids = messageIds(jobId);
    const deliveryIds = (await this.#deliveries.ids(tenant)).filter((deliveryId) =>
      ids.includes(deliveryIdParts(deliveryId).messageId),
    );
    await Promise.all([
      ...ids.map((id) => this.#inbox.delete(tenant, id)),
      ...deliveryIds.map((deliveryId) => this.#deliveries.delete(tenant, deliveryId)),
    ]);
  }

  /** Queues a test message for one endpoint. @returns the delivery's id */
  sendTest(tenant: string, { id, url }: Endpoint): Promise<string> {
    return this.#deliver(tenant, testMessage(id), { endpointId: id, url });
  }

  /** Begins a new round of a delivery. False if there is no such delivery. */
  async replay(tenant: string, id: string): Promise<boolean> {
    const round = await this.#deliveries.replay(tenant, id);
    if (round !== null) await this.#enqueue(tenant, id, round);
    return round !== null;
  }

  async #deliver(tenant: string, message: WebhookMessage, receiver: Receiver): Promise<string> {
    const { id, state, round } = await this.#deliveries.create(tenant, message, receiver);
    if (state === "pending") await this.#enqueue(tenant, id, round);
    return id;
  }

  /** Idempotent: BullMQ adds a job id once, and each round has its own. */
  async #enqueue(tenant: string, id: string, round: number): Promise<void> {
    await this.#queue.add(
      "webhook",
      { tenant, id, round },
      {
        jobId: `${id}-${round}`,
        attempts: RETRY_DELAYS_MS.length + 1,
        backoff: { type: "custom" },
        removeOnComplete: true,
        removeOnFail: true,
      },
    );
  }
}

function isSubscribed({ disabled, events }: Endpoint, type: WebhookEvent): boolean {
  return disabled === null && (events === null || events.includes(type));
}
