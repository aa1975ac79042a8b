/**
 * Announcing: a message goes into the tenant's inbox and, by the delivery queue, to every receiver that wants it. Edge
 * and workers may announce the same message, and a process may die in between: every step is idempotent, and whoever
 * comes later does what is left.
 */
import type { Batch } from "./batch-contract.ts";
import type { Job } from "./contract.ts";
import { DeliveryStore } from "./delivery-store.ts";
import { EndpointStore, type Endpoint } from "./endpoint-store.ts";
import { InboxStore } from "./inbox-store.ts";
import type { DeliveryPayload, JobRecord } from "./job.ts";
import type { RedisClient } from "./redis-client.ts";
import { DUE_KEY } from "./redis-keys.ts";
import { RETRY_DELAYS_MS } from "./retry-schedule.ts";
import {
  batchMessage,
  jobMessage,
  messageIdOf,
  partsOf,
  testMessage,
  type Message,
} from "./webhook.ts";
import type { WebhookEvent } from "./webhook-contract.ts";

/** The part of a BullMQ queue that this needs. */
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

type Receiver = { readonly endpointId: string | null; readonly url: string };

export class Announcer {
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

  /** Announces an ended job, once it can be read as such. */
  async ended({ tenant, asked }: Pick<JobRecord, "tenant" | "asked">, job: Job): Promise<void> {
    // Messages are kept for days, and the output of a job that is not to be stored only for minutes.
    const { requestId, traceparent } = asked;
    const origin = { ...(requestId && { requestId }), ...(traceparent && { traceparent }) };
    const message = { ...jobMessage(job, asked.store !== false), origin };
    const named = job.webhook ? [{ endpointId: null, url: job.webhook.url }] : [];
    // A batch announces itself, not each of its thousands of lines.
    if (asked.batch === undefined) await this.#announce(tenant, message, named);
    else await this.#deliverAll(tenant, message, named);
    await this.#redis.zrem(DUE_KEY, job.id);
  }

  /** Announces an ended batch, once it can be read as such. */
  async batchEnded(tenant: string, batch: Batch): Promise<void> {
    await this.#announce(tenant, batchMessage(batch), []);
  }

  /** Into the inbox, to every endpoint that wants it, and to the receivers that are named. */
  async #announce(tenant: string, message: Message, named: readonly Receiver[]): Promise<void> {
    const [endpoints] = await Promise.all([
      this.#endpoints.all(tenant),
      this.#inbox.append(tenant, message),
    ]);
    const receivers: Receiver[] = endpoints
      .filter((endpoint) => wants(endpoint, message.type as WebhookEvent))
      .map(({ id, url }) => ({ endpointId: id, url }));
    await this.#deliverAll(tenant, message, [...receivers, ...named]);
  }

  async #deliverAll(tenant: string, message: Message, receivers: readonly Receiver[]) {
    await Promise.all(receivers.map((receiver) => this.#deliver(tenant, message, receiver)));
  }

  /** Forgets what was announced of a deleted job; what has not been delivered is not sent any more. */
  async forget(tenant: string, jobId: string): Promise<void> {
    const messageId = messageIdOf(jobId);
    const ids = (await this.#deliveries.ids(tenant)).filter(
      (id) => partsOf(id).messageId === messageId,
    );
    await Promise.all([
      this.#inbox.delete(tenant, messageId),
      ...ids.map((id) => this.#deliveries.delete(tenant, id)),
    ]);
  }

  /** Sends a test to one endpoint. @returns the delivery's id */
  test(tenant: string, { id, url }: Endpoint): Promise<string> {
    return this.#deliver(tenant, testMessage(id), { endpointId: id, url });
  }

  /** Begins the delivery anew. False if there is none such. */
  async replay(tenant: string, id: string): Promise<boolean> {
    const round = await this.#deliveries.replay(tenant, id);
    if (round !== null) await this.#enqueue(tenant, id, round);
    return round !== null;
  }

  async #deliver(tenant: string, message: Message, receiver: Receiver): Promise<string> {
    const { id, state, round } = await this.#deliveries.create(tenant, message, receiver);
    if (state === "pending") await this.#enqueue(tenant, id, round);
    return id;
  }

  /** The queue knows a round by its id and keeps the first. */
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

function wants({ disabled, events }: Endpoint, type: WebhookEvent): boolean {
  return disabled === null && (events === null || events.includes(type));
}
