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
import { DUE_KEY, jobKey, progressTurnsKey } from "../redis/keys.ts";
import { RETRY_DELAYS_MS } from "./retry-schedule.ts";
import {
  batchMessage,
  endMessageIds,
  isAboutJob,
  jobMessage,
  deliveryIdParts,
  progressMessage,
  responseMessage,
  runningJob,
  startMessage,
  testMessage,
  type RunningJob,
  type WebhookMessage,
} from "./message.ts";
import { markStartPublished, takeProgressTurn } from "./progress-scripts.ts";
import { isEventBeforeEnd, type WebhookEvent } from "../api/webhooks.ts";

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

/** The events that a receiver has asked for; null for every end. */
type Wanted = readonly WebhookEvent[] | null;

/** Where the messages about a job or a batch are sent. */
interface Audience {
  readonly tenant: string;
  /** The request that caused them. */
  readonly origin: WebhookMessage["origin"];
  readonly receivers: readonly (Receiver & { readonly events: Wanted })[];
  readonly hasInbox: boolean;
}

type JobInQuestion = Pick<JobRecord, "tenant" | "requestOptions">;

/** Window of the limit of progress messages. */
const PROGRESS_WINDOW_MS = 60_000;

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

  /** Publishes the end of a job, and its start if that is missing. The job's record must already say that it has ended. */
  async publishJobEnd(record: JobInQuestion, job: Job): Promise<void> {
    const { store, protocol } = record.requestOptions;
    const audience = await this.#audienceOf(record, job.id, job.webhook?.url ?? "");
    if (job.started_at !== null) await this.#publishStart(audience, job);
    // Messages are kept for days, but the output of a job with `store: false` only for minutes.
    await this.#publish(audience, jobMessage(job, store !== false));
    if (protocol === "responses") await this.#publish(audience, responseMessage(job));
    await this.#redis.zrem(DUE_KEY, job.id);
  }

  /** Publishes that a job was started, once. @returns whether a receiver wants to know of its progress */
  async publishJobStart(record: JobRecord): Promise<boolean> {
    const audience = await this.#audienceOf(record, record.id, record.webhookUrl);
    await this.#publishStart(audience, runningJob(record));
    return isWanted(audience, "job.progress");
  }

  /**
   * Publishes how many tokens a job has. A tenant gets a limited number of these messages each minute; others are left out.
   * Each count is published once.
   */
  async publishJobProgress(record: JobRecord, completionTokens: number): Promise<void> {
    const audience = await this.#audienceOf(record, record.id, record.webhookUrl);
    if (!isWanted(audience, "job.progress")) return;
    const keys = [progressTurnsKey(record.tenant)];
    const args = [LIMITS.progressMessagesPerMinuteMax, PROGRESS_WINDOW_MS];
    if ((await takeProgressTurn(this.#redis, keys, args)) !== 1) return;
    await this.#publish(audience, progressMessage(record, completionTokens));
  }

  async #publishStart(audience: Audience, job: RunningJob): Promise<void> {
    if (!isWanted(audience, "job.started")) return;
    if ((await this.#redis.hget(jobKey(job.id), "startPublished")) !== null) return;
    await this.#publish(audience, startMessage(job));
    await markStartPublished(this.#redis, [jobKey(job.id)]);
  }

  async #audienceOf(
    { tenant, requestOptions }: JobInQuestion,
    id: string,
    url: string,
  ): Promise<Audience> {
    const { requestId, traceparent, webhookEvents = null } = requestOptions;
    const isOneOfMany = await this.#isOneOfMany(id, requestOptions);
    const endpoints = isOneOfMany ? [] : await this.#endpointReceivers(tenant);
    const ofJob = url === "" ? [] : [{ endpointId: null, url, events: webhookEvents }];
    return {
      tenant,
      origin: { ...(requestId && { requestId }), ...(traceparent && { traceparent }) },
      receivers: [...endpoints, ...ofJob],
      hasInbox: !isOneOfMany,
    };
  }

  async #endpointReceivers(tenant: string): Promise<Audience["receivers"]> {
    const endpoints = await this.#endpoints.list(tenant);
    return endpoints
      .filter(({ disabled }) => disabled === null)
      .map(({ id, url, events }) => ({ endpointId: id, url, events }));
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
    const receivers = await this.#endpointReceivers(tenant);
    const audience = { tenant, origin: {}, receivers, hasInbox: true };
    await this.#publish(audience, batchMessage(batch));
  }

  /** Publishes to the inbox and to every receiver that wants the event. The inbox has only ends, so that it holds more of them. */
  async #publish(audience: Audience, message: WebhookMessage): Promise<void> {
    const { tenant, origin, receivers, hasInbox } = audience;
    const type = message.type as WebhookEvent;
    const sent = { ...message, ...(origin && { origin }) };
    await Promise.all([
      hasInbox && !isEventBeforeEnd(type) && this.#inbox.append(tenant, sent),
      ...receivers
        .filter(({ events }) => wants(events, type))
        .map((receiver) => this.#deliver(tenant, sent, receiver)),
    ]);
  }

  /** Deletes the messages about a deleted job. Deliveries that are pending are not sent any more. */
  async deleteJobMessages(tenant: string, jobId: string): Promise<void> {
    const deliveryIds = (await this.#deliveries.ids(tenant)).filter((deliveryId) =>
      isAboutJob(deliveryIdParts(deliveryId).messageId, jobId),
    );
    await Promise.all([
      ...endMessageIds(jobId).map((id) => this.#inbox.delete(tenant, id)),
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

const wants = (events: Wanted, type: WebhookEvent) =>
  events?.includes(type) ?? !isEventBeforeEnd(type);

const isWanted = ({ receivers }: Audience, type: WebhookEvent) =>
  receivers.some(({ events }) => wants(events, type));
