/**
 * Delivers webhooks: takes from the queue what is due, sends it signed, and decides what the answer means. A worker that
 * dies in the middle is one whose attempt is made again: at least once, always with the same id and body.
 */
import { SpanKind, SpanStatusCode, type Span } from "@opentelemetry/api";
import { DelayedError, UnrecoverableError, Worker, type Job as QueueJob } from "bullmq";
import type { Redis } from "ioredis";
import type { Logger } from "pino";
import * as v from "valibot";
import { DeliveryStore, type DeliveryRecord } from "../shared/delivery-store.ts";
import { EndpointStore } from "../shared/endpoint-store.ts";
import { DeliveryPayload } from "../shared/job.ts";
import { DELIVERY_QUEUE, QUEUE_PREFIX } from "../shared/redis-keys.ts";
import { nextDelayMs } from "../shared/retry-schedule.ts";
import { SigningStore } from "../shared/signing-store.ts";
import { signedHeaders, type SigningKey } from "../shared/signing.ts";
import type { DeliveryAttempt, DeliveryState } from "../shared/webhook-contract.ts";
import type { Metrics } from "./metrics.ts";
import { contextOf, tracer } from "./tracing.ts";
import { post, type Answer, type PostOptions } from "./post.ts";
import { RETRY_MS } from "./redis.ts";

/** Deliveries on their way at once, per worker: they do nothing but wait. */
const CONCURRENCY = 64;
/** Of these for one tenant, so that one whose receivers hang does not hold up the others; the rest comes back later. */
const TENANT_CONCURRENCY = 16;
const COME_BACK_MS = 5_000;
const GONE = 410;

export interface DelivererDeps {
  readonly connection: Redis;
  readonly sending: PostOptions;
  readonly log: Logger;
  /** Milliseconds after which a silent worker's deliveries are taken over. */
  readonly lockMs: number;
  readonly metrics: Pick<Metrics, "webhookAttempt">;
}

export function startDeliverer(deps: DelivererDeps): Worker {
  const { connection, lockMs, log } = deps;
  const deliverer = new Deliverer(deps);
  const inFlight = new Map<string, number>();
  const deliver = async (queueJob: QueueJob<DeliveryPayload>, token?: string) => {
    const { tenant } = queueJob.data;
    const others = inFlight.get(tenant) ?? 0;
    if (others >= TENANT_CONCURRENCY) {
      await queueJob.moveToDelayed(Date.now() + COME_BACK_MS, token);
      throw new DelayedError();
    }
    inFlight.set(tenant, others + 1);
    try {
      await deliverer.deliver(queueJob);
    } finally {
      const left = inFlight.get(tenant)! - 1;
      if (left > 0) inFlight.set(tenant, left);
      else inFlight.delete(tenant);
    }
  };
  const worker = new Worker(DELIVERY_QUEUE, deliver, {
    connection,
    prefix: QUEUE_PREFIX,
    concurrency: CONCURRENCY,
    lockDuration: lockMs,
    stalledInterval: Math.ceil(lockMs / 3),
    runRetryDelay: RETRY_MS,
    // Losing its worker is no fault of a delivery.
    maxStalledCount: Number.MAX_SAFE_INTEGER,
    settings: { backoffStrategy: delayAfter },
  });
  worker.on("error", (error) => log.warn({ reason: error.message }, "delivery queue"));
  return worker;
}

/** An attempt that failed, and how long to wait before the next. */
class TryLater extends Error {
  readonly delayMs: number;

  constructor(delayMs: number) {
    super(`not received; tried again in ${delayMs} ms`);
    this.delayMs = delayMs;
  }
}

/** What failed otherwise is a fault of ours or of Redis, and tried again as if the receiver had failed. */
function delayAfter(failures: number, _type?: string, error?: Error): number {
  return error instanceof TryLater ? error.delayMs : (nextDelayMs(failures, undefined, 0) ?? -1);
}

/** What an attempt came to. */
interface Verdict {
  readonly state: DeliveryState;
  /** Until the next attempt; null after the last one. */
  readonly delayMs: number | null;
}

/** Where a delivery goes, or why it goes nowhere any more. */
type Target =
  | { readonly why: string }
  | {
      readonly why: null;
      readonly url: string;
      readonly keys: readonly SigningKey[];
      readonly body: string;
    };

type Sent = Partial<Answer> & { readonly attempt: DeliveryAttempt };

class Deliverer {
  readonly #deliveries: DeliveryStore;
  readonly #endpoints: EndpointStore;
  readonly #signing: SigningStore;
  readonly #sending: PostOptions;
  readonly #metrics: DelivererDeps["metrics"];
  readonly #log: Logger;

  constructor({ connection, sending, metrics, log }: DelivererDeps) {
    this.#deliveries = new DeliveryStore(connection);
    this.#endpoints = new EndpointStore(connection);
    this.#signing = new SigningStore(connection);
    this.#sending = sending;
    this.#metrics = metrics;
    this.#log = log;
  }

  async deliver({ data, attemptsMade }: QueueJob): Promise<void> {
    const { tenant, id, round } = v.parse(DeliveryPayload, data);
    const delivery = await this.#deliveries.one(tenant, id);
    // A worker died between noting an attempt and telling the queue, or a replay began another round.
    if (delivery?.state !== "pending" || delivery.round !== round) return;
    const target = await this.#target(tenant, delivery);
    const { span, log } = this.#watch(delivery);
    const sent = await this.#send(target, delivery);
    const { state, delayMs } = target.why === null ? judge(sent, attemptsMade + 1) : GIVEN_UP;
    const nextAtMs = delayMs === null ? null : Date.now() + delayMs;
    await this.#deliveries.record(tenant, delivery, sent.attempt, state, nextAtMs);
    this.#metrics.webhookAttempt(state);
    const { status, error } = sent.attempt;
    span.setAttributes({
      "trimtab.state": state,
      ...(status !== null && { "http.response.status_code": status }),
    });
    if (!isReceived(sent)) {
      span.setStatus({ code: SpanStatusCode.ERROR, message: error ?? String(status) });
    }
    span.end();
    log.info({ state, ...sent.attempt }, "webhook attempt");
    if (target.why === null && delivery.endpointId !== "") {
      await this.#noteHealth(tenant, delivery, sent);
    }
    if (delayMs !== null) throw new TryLater(delayMs);
    if (state === "failed") throw new UnrecoverableError("given up");
  }

  /** The span of an attempt and the log of its lines, which name the job and the request that led to it. */
  #watch({ id, jobId, origin, attempts }: DeliveryRecord): { span: Span; log: Logger } {
    const { requestId, traceparent } = origin;
    const attributes = {
      ...(jobId !== "" && { "trimtab.job.id": jobId }),
      "trimtab.attempt": attempts + 1,
    };
    const options = { kind: SpanKind.CLIENT, attributes };
    const request = requestId === undefined ? {} : { request: requestId };
    const job = jobId === "" ? {} : { job: jobId };
    return {
      span: tracer.startSpan("webhook", options, contextOf(traceparent)),
      log: this.#log.child({ delivery: id, ...job, ...request }),
    };
  }

  /** What to send where, as things stand now: an endpoint may have been moved since. */
  async #target(tenant: string, { id, endpointId, url }: DeliveryRecord): Promise<Target> {
    const [keys, body, endpoint] = await Promise.all([
      this.#signing.live(tenant),
      this.#deliveries.body(tenant, id),
      endpointId === "" ? undefined : this.#endpoints.one(tenant, endpointId),
    ]);
    if (endpoint === null) return { why: "the endpoint was deleted" };
    if (endpoint?.disabled) return { why: "the endpoint is disabled" };
    if (keys.length === 0) return { why: "there is no key to sign with" };
    if (body === null) return { why: "the message was deleted" };
    return { why: null, url: endpoint?.url ?? url, keys, body };
  }

  async #send(target: Target, { messageId, attempts }: DeliveryRecord): Promise<Sent> {
    const sentAt = new Date();
    const about = (status: number | null, error: string | null): DeliveryAttempt => ({
      attempt: attempts + 1,
      at: sentAt.getTime() / 1000,
      status,
      error,
      duration_ms: Date.now() - sentAt.getTime(),
    });
    if (target.why !== null) return { attempt: about(null, target.why) };
    const { url, keys, body } = target;
    const headers = await signedHeaders(keys, messageId, body, sentAt);
    try {
      const answer = await post(url, { ...headers, "user-agent": "trimtab" }, body, this.#sending);
      return { ...answer, attempt: about(answer.status, null) };
    } catch (error) {
      return { attempt: about(null, error instanceof Error ? error.message : String(error)) };
    }
  }

  async #noteHealth(tenant: string, { endpointId }: DeliveryRecord, sent: Sent): Promise<void> {
    if (isReceived(sent)) return this.#endpoints.received(tenant, endpointId);
    if (sent.status === GONE) {
      return this.#endpoints.disable(tenant, endpointId, "the receiver answered 410 Gone");
    }
    const isDisabled = await this.#endpoints.failed(tenant, endpointId, Date.now());
    if (isDisabled) this.#log.warn({ endpoint: endpointId }, "webhook endpoint disabled");
  }
}

const GIVEN_UP: Verdict = { state: "failed", delayMs: null };

const isReceived = ({ status = 0 }: Sent) => status >= 200 && status < 300;

function judge(sent: Sent, failures: number): Verdict {
  if (isReceived(sent)) return { state: "delivered", delayMs: null };
  if (sent.status === GONE) return GIVEN_UP;
  const delayMs = nextDelayMs(failures, sent.retryAfter, Math.random());
  return delayMs === null ? GIVEN_UP : { state: "pending", delayMs };
}
