/**
 * The deliverer: takes due deliveries from BullMQ's delivery queue, sends each one signed, records the attempt, and retries
 * it on a schedule (shared/webhooks/retry-schedule.ts) until the receiver accepts it. If a worker crashes during an attempt,
 * the attempt is repeated: a webhook arrives at least once, always with the same id and body.
 * This folder knows the webhook stores, not jobs or batches: messages are made by shared/webhooks/publisher.ts.
 */
import { SpanKind, SpanStatusCode, type Span } from "@opentelemetry/api";
import { DelayedError, UnrecoverableError, type Job as QueueJob, type Worker } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import * as v from "valibot";
import {
  DeliveryPayload,
  DeliveryStore,
  type DeliveryRecord,
} from "../../shared/webhooks/delivery-store.ts";
import { EndpointStore } from "../../shared/webhooks/endpoint-store.ts";
import { DELIVERY_QUEUE } from "../../shared/redis/keys.ts";
import { commandsOf } from "../../shared/redis/tags.ts";
import { NewerRecord } from "../../shared/redis/version.ts";
import { nextAttemptDelayMs } from "../../shared/webhooks/retry-schedule.ts";
import { SigningStore } from "../../shared/webhooks/signing-store.ts";
import { signedHeaders, type SigningKey } from "../../shared/webhooks/signing.ts";
import {
  isEventBeforeEnd,
  type DeliveryAttempt,
  type DeliveryState,
  type WebhookEvent,
} from "../../shared/api/webhooks.ts";
import type { Metrics } from "../telemetry/metrics.ts";
import { traceContextOf, tracer } from "../telemetry/tracing.ts";
import { post, type WebhookResponse, type PostOptions } from "./post.ts";
import { SENDS_MAX, SendLimits } from "./send-limits.ts";
import { startQueueWorker } from "../redis/queue-worker.ts";

/**
 * A delivery whose tenant has no free slot waits until another one of the tenant ends. If the workers that would wake it are lost,
 * it comes back by itself: after this time, and a second later for each one that waits before it, so that the cost of waiting
 * does not grow with their number.
 */
const WAIT_MS = 60_000;
const WAIT_MS_EACH = 1_000;
/** A woken delivery may have been deleted; then the next one is woken, this many times at most. */
const WAKE_TRIES = 5;
/** A delivery that only a worker of a newer release can send is put back for this time. */
const NEWER_DELAY_MS = 5_000;
/** A message about a job that has not ended is of no use later: it is sent at most this often. */
const BEFORE_END_ATTEMPTS_MAX = 2;
/** Status 410: the receiver wants no more webhooks. */
const GONE = 410;

export interface DelivererDeps {
  readonly connection: Redis;
  readonly postOptions: PostOptions;
  readonly log: Logger;
  /** Whether nothing may be sent now. */
  readonly isPaused?: () => boolean;
  /** If the lock of a delivery is not renewed for this many milliseconds, another worker takes over the delivery. */
  readonly lockMs: number;
  readonly metrics: Pick<Metrics, "webhookAttempt">;
  /** The time that webhooks are signed with, in Unix ms. Default: that of this machine. */
  readonly now?: () => number;
}

/** Starts delivering. Closing the returned BullMQ worker waits for the attempts in progress. */
export function startDeliverer(deps: DelivererDeps): Worker {
  const { connection, lockMs, log, isPaused } = deps;
  const deliverer = new Deliverer(deps);
  const deliveries = new DeliveryStore(commandsOf(connection));
  const limits = new SendLimits();
  const deliver = async (queueJob: QueueJob<DeliveryPayload>, token?: string) => {
    const { tenant } = queueJob.data;
    const id = queueJob.id!;
    if (!limits.tryBegin(tenant)) {
      const before = await deliveries.countWaiting(tenant);
      await queueJob.moveToDelayed(Date.now() + WAIT_MS + before * WAIT_MS_EACH, token);
      await deliveries.waitForSlot(tenant, id);
      // The tenant's last delivery may have ended since, and then nothing else would wake this one.
      if (limits.hasRoom(tenant)) await wakeNext(tenant);
      throw new DelayedError();
    }
    try {
      await deliveries.stopWaiting(tenant, id);
      await deliverer.deliver(queueJob);
    } catch (error) {
      if (!(error instanceof NewerRecord)) throw error;
      // A worker of a newer release sends it. This is no attempt.
      await queueJob.moveToDelayed(Date.now() + NEWER_DELAY_MS, token);
      throw new DelayedError();
    } finally {
      limits.ended(tenant);
      await wakeNext(tenant);
    }
  };
  const wakeNext = async (tenant: string) => {
    for (let tries = 0; tries < WAKE_TRIES; tries++) {
      const id = await deliveries.nextWaiting(tenant).catch(() => null);
      if (id === null) return;
      const isWoken = await worker.backend.promote(id).then(
        () => true,
        () => false,
      );
      if (isWoken) return;
    }
  };
  const worker = startQueueWorker(DELIVERY_QUEUE, deliver, {
    connection,
    concurrency: SENDS_MAX,
    lockMs,
    log,
    ...(isPaused && { isPaused }),
    settings: { backoffStrategy: backoffMs },
  });
  return worker;
}

/** Thrown after a failed attempt, so that BullMQ makes the next one after the delay. */
class RetryLater extends Error {
  readonly delayMs: number;

  constructor(delayMs: number) {
    super(`The receiver did not accept the webhook; next attempt in ${delayMs} ms`);
    this.delayMs = delayMs;
  }
}

/**
 * Delay until the next attempt in ms; -1 if there is none. An error that is not a RetryLater is a fault of this program or of
 * Redis, and is retried on the same schedule as a receiver's failure.
 */
function backoffMs(failures: number, _type?: string, error?: Error): number {
  return error instanceof RetryLater
    ? error.delayMs
    : (nextAttemptDelayMs(failures, undefined, 0) ?? -1);
}

/** The delivery's state after an attempt. */
interface AttemptResult {
  readonly state: DeliveryState;
  /** Time until the next attempt; null if there is none. */
  readonly delayMs: number | null;
}

/** The body, the URL and the signing keys of an attempt, or the reason why the delivery cannot be sent any more. */
type DeliveryTarget =
  | { readonly refusal: string }
  | {
      readonly refusal: null;
      readonly url: string;
      readonly keys: readonly SigningKey[];
      readonly body: string;
    };

type SendResult = Partial<WebhookResponse> & { readonly attempt: DeliveryAttempt };

class Deliverer {
  readonly #deliveries: DeliveryStore;
  readonly #endpoints: EndpointStore;
  readonly #signing: SigningStore;
  readonly #postOptions: PostOptions;
  readonly #metrics: DelivererDeps["metrics"];
  readonly #log: Logger;
  readonly #now: () => number;

  constructor({ connection, postOptions, metrics, log, now }: DelivererDeps) {
    const redis = commandsOf(connection);
    this.#deliveries = new DeliveryStore(redis);
    this.#endpoints = new EndpointStore(redis);
    this.#signing = new SigningStore(redis);
    this.#postOptions = postOptions;
    this.#metrics = metrics;
    this.#log = log;
    this.#now = now ?? (() => Date.now());
  }

  async deliver({ data, attemptsMade }: QueueJob): Promise<void> {
    const { tenant, id, round } = v.parse(DeliveryPayload, data);
    const delivery = await this.#deliveries.get(tenant, id);
    // There is nothing to do: a worker crashed after it had recorded the last attempt, or a replay started a new round.
    if (delivery?.state !== "pending" || delivery.round !== round) return;
    const target = await this.#resolveTarget(tenant, delivery);
    const { span, log } = this.#startTelemetry(delivery);
    const sent = await this.#send(target, delivery);
    const { state, delayMs } =
      target.refusal === null ? toAttemptResult(delivery, sent, attemptsMade + 1) : FAILED;
    const nextAtMs = delayMs === null ? null : this.#now() + delayMs;
    await this.#deliveries.recordAttempt(tenant, delivery, sent.attempt, state, nextAtMs);
    this.#metrics.webhookAttempt(state);
    const { status, error } = sent.attempt;
    span.setAttributes({
      "trimtab.state": state,
      ...(status !== null && { "http.response.status_code": status }),
    });
    if (!isAccepted(sent)) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: error ?? String(status) });
    }
    span.end();
    log.info({ state, ...sent.attempt }, "Webhook attempt");
    if (target.refusal === null && delivery.endpointId !== "") {
      await this.#recordEndpointHealth(tenant, delivery, sent);
    }
    if (delayMs !== null) throw new RetryLater(delayMs);
    if (state === "failed")
      throw new UnrecoverableError("The delivery has failed: it will not be tried again");
  }

  /** Starts the attempt's span, and a logger whose lines name the job and the request that the webhook is about. */
  #startTelemetry({ id, jobId, origin, attempts }: DeliveryRecord): { span: Span; log: Logger } {
    const { requestId, traceparent } = origin;
    const attributes = {
      ...(jobId !== "" && { "trimtab.job.id": jobId }),
      "trimtab.attempt": attempts + 1,
    };
    const options = { kind: SpanKind.CLIENT, attributes };
    const request = requestId === undefined ? {} : { request: requestId };
    const job = jobId === "" ? {} : { job: jobId };
    return {
      span: tracer.startSpan("webhook", options, traceContextOf(traceparent)),
      log: this.#log.child({ delivery: id, ...job, ...request }),
    };
  }

  /** Read at each attempt, because the endpoint's URL may have changed since the message was published. */
  async #resolveTarget(
    tenant: string,
    { id, endpointId, url }: DeliveryRecord,
  ): Promise<DeliveryTarget> {
    const [keys, body, endpoint] = await Promise.all([
      this.#signing.liveKeys(tenant),
      this.#deliveries.body(tenant, id),
      endpointId === "" ? undefined : this.#endpoints.get(tenant, endpointId),
    ]);
    if (endpoint === null) return { refusal: "The endpoint was deleted" };
    if (endpoint?.disabled) return { refusal: "The endpoint is disabled" };
    if (keys.length === 0) return { refusal: "There is no key to sign with" };
    if (body === null) return { refusal: "The message was deleted" };
    return { refusal: null, url: endpoint?.url ?? url, keys, body };
  }

  async #send(
    target: DeliveryTarget,
    { messageId, attempts }: DeliveryRecord,
  ): Promise<SendResult> {
    const sentAt = new Date(this.#now());
    const startedMs = performance.now();
    const attempt = (status: number | null, error: string | null): DeliveryAttempt => ({
      attempt: attempts + 1,
      at: sentAt.getTime() / 1000,
      status,
      error,
      duration_ms: Math.round(performance.now() - startedMs),
    });
    if (target.refusal !== null) return { attempt: attempt(null, target.refusal) };
    const { url, keys, body } = target;
    const headers = await signedHeaders(keys, messageId, body, sentAt);
    try {
      const answer = await post(
        url,
        { ...headers, "user-agent": "trimtab" },
        body,
        this.#postOptions,
      );
      return { ...answer, attempt: attempt(answer.status, null) };
    } catch (error) {
      return { attempt: attempt(null, error instanceof Error ? error.message : String(error)) };
    }
  }

  async #recordEndpointHealth(
    tenant: string,
    { endpointId }: DeliveryRecord,
    sent: SendResult,
  ): Promise<void> {
    if (isAccepted(sent)) return this.#endpoints.recordSuccess(tenant, endpointId);
    if (sent.status === GONE) {
      return this.#endpoints.disable(tenant, endpointId, "the receiver answered 410 Gone");
    }
    const isDisabled = await this.#endpoints.recordFailure(tenant, endpointId, this.#now());
    if (isDisabled)
      this.#log.warn(
        { endpoint: endpointId },
        "Webhook endpoint disabled: all its deliveries failed for too long",
      );
  }
}

const FAILED: AttemptResult = { state: "failed", delayMs: null };

const isAccepted = ({ status = 0 }: SendResult) => status >= 200 && status < 300;

function toAttemptResult(
  { type }: DeliveryRecord,
  sent: SendResult,
  failures: number,
): AttemptResult {
  if (isAccepted(sent)) return { state: "delivered", delayMs: null };
  const isLast = isEventBeforeEnd(type as WebhookEvent) && failures >= BEFORE_END_ATTEMPTS_MAX;
  if (isLast || sent.status === GONE) return FAILED;
  const delayMs = nextAttemptDelayMs(failures, sent.retryAfter, Math.random());
  return delayMs === null ? FAILED : { state: "pending", delayMs };
}
