/**
 * Webhook deliveries in Redis: one record for each message and receiver, with its attempts. BullMQ's delivery queue
 * decides only when the next attempt is made. A replay begins a new round; queued attempts of earlier rounds then change nothing.
 */
import * as v from "valibot";
import { count, countOrNull, fromJson } from "../redis/fields.ts";
import { LIMITS } from "../api/limits.ts";
import type { RedisClient } from "../redis/client.ts";
import { redisNow } from "../redis/clock.ts";
import {
  attemptsKey,
  deliveriesBeforeEndKey,
  deliveriesKey,
  deliveryKey,
  waitingDeliveriesKey,
} from "../redis/keys.ts";
import { versionField } from "../redis/version.ts";
import { deliveryIdOf, type WebhookMessage, type RequestOrigin } from "./message.ts";
import {
  isEventBeforeEnd,
  type DeliveryAttempt,
  type DeliveryState,
  type WebhookEvent,
} from "../api/webhooks.ts";
import * as scripts from "./scripts.ts";

/** How long a delivery can be read and replayed: 7 days, which is longer than all attempts take (75 hours). */
const RETENTION_MS = 7 * 24 * 3_600_000;

/** Version of delivery records (redis/version.ts). */
const DELIVERY_VERSION = 1;

/** A delivery without its body, which may be long. */
const DeliveryRecord = v.object({
  version: versionField(DELIVERY_VERSION),
  id: v.string(),
  messageId: v.string(),
  type: v.string(),
  /** Empty for the webhook URL of a job. */
  endpointId: v.string(),
  /** Empty for batches and tests. */
  jobId: v.string(),
  url: v.string(),
  state: v.picklist(["pending", "delivered", "failed"]),
  /** The number of the round, from 1. Each replay begins a new round. */
  round: count,
  /** Attempts so far, of all rounds. */
  attempts: count,
  createdAtMs: count,
  nextAtMs: countOrNull,
  /** The request that the message comes from. */
  origin: v.optional(
    v.pipe(
      fromJson,
      v.transform((origin) => origin as RequestOrigin),
    ),
    "{}",
  ),
});
export type DeliveryRecord = v.InferOutput<typeof DeliveryRecord>;

/** Payload of the delivery queue: which delivery, and which round of it. */
export const DeliveryPayload = v.object({ tenant: v.string(), id: v.string(), round: v.number() });
export type DeliveryPayload = v.InferOutput<typeof DeliveryPayload>;

const FIELDS = Object.keys(DeliveryRecord.entries) as (keyof DeliveryRecord)[];

export class DeliveryStore {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /** Idempotent: a message has one delivery to each receiver. */
  async create(
    tenant: string,
    message: WebhookMessage,
    to: { readonly endpointId: string | null; readonly url: string },
  ): Promise<{ id: string; state: DeliveryState; round: number }> {
    const id = deliveryIdOf(message.id, to.endpointId);
    const nowMs = await redisNow(this.#redis);
    const record: Record<keyof DeliveryRecord, string | number> = {
      version: DELIVERY_VERSION,
      id,
      messageId: message.id,
      type: message.type,
      endpointId: to.endpointId ?? "",
      jobId: message.jobId ?? "",
      url: to.url,
      state: "pending",
      round: 1,
      attempts: 0,
      createdAtMs: nowMs,
      nextAtMs: nowMs,
      origin: JSON.stringify(message.origin ?? {}),
    };
    const [state, round] = (await scripts.createDelivery(
      this.#redis,
      [deliveryKey(tenant, id), listKey(tenant, message)],
      [
        tenant,
        id,
        nowMs,
        RETENTION_MS,
        LIMITS.deliveriesListedMax,
        ...Object.entries({ ...record, body: message.body }).flat(),
      ],
    )) as [DeliveryState, string];
    return { id, state, round: Number(round) };
  }

  /** @throws NewerRecord */
  async get(tenant: string, id: string): Promise<DeliveryRecord | null> {
    const values = await this.#redis.hmget(deliveryKey(tenant, id), ...FIELDS);
    if (values[FIELDS.indexOf("id")] == null) return null;
    const fields = FIELDS.map((field, i) => [field, values[i] ?? undefined]);
    return v.parse(DeliveryRecord, Object.fromEntries(fields));
  }

  /** The request body of the webhook; null if the delivery was deleted. */
  body(tenant: string, id: string): Promise<string | null> {
    return this.#redis.hget(deliveryKey(tenant, id), "body");
  }

  /** The latest attempts, oldest first. */
  async attempts(tenant: string, id: string): Promise<DeliveryAttempt[]> {
    return readAttempts(this.#redis, tenant, id);
  }

  /** Ids of the tenant's deliveries, newest first. */
  async ids(tenant: string): Promise<string[]> {
    const keys = [deliveriesKey(tenant), deliveriesBeforeEndKey(tenant)];
    const lists = await Promise.all(
      keys.map((key) => this.#redis.zrange(key, 0, "-1", "WITHSCORES")),
    );
    const timed = lists.flatMap((list) =>
      list.flatMap((id, i) => (i % 2 === 0 ? { id, createdAtMs: Number(list[i + 1]) } : [])),
    );
    // Those of one millisecond have an order too, because pages follow each other.
    return timed
      .toSorted((a, b) => b.createdAtMs - a.createdAtMs || (a.id < b.id ? 1 : -1))
      .map(({ id }) => id);
  }

  async delete(tenant: string, id: string): Promise<void> {
    await Promise.all([
      this.#redis.del(deliveryKey(tenant, id)),
      this.#redis.del(attemptsKey(tenant, id)),
      this.#redis.zrem(deliveriesKey(tenant), id),
      this.#redis.zrem(deliveriesBeforeEndKey(tenant), id),
    ]);
  }

  /**
   * Records an attempt and the delivery's state after it.
   * @param nextAtMs when the next attempt is due (Unix ms); null after the last one
   */
  async recordAttempt(
    tenant: string,
    { id, round }: Pick<DeliveryRecord, "id" | "round">,
    attempt: DeliveryAttempt,
    state: DeliveryState,
    nextAtMs: number | null,
  ): Promise<void> {
    const lists = [deliveriesKey(tenant), deliveriesBeforeEndKey(tenant)];
    const keys = [deliveryKey(tenant, id), attemptsKey(tenant, id), ...lists];
    const json = JSON.stringify(attempt);
    const args = [id, round, json, state, nextAtMs ?? "", LIMITS.deliveryAttemptsKeptMax];
    await scripts.recordAttempt(this.#redis, keys, args);
  }

  /** Adds a delivery to those that wait for a slot of their tenant. */
  async waitForSlot(tenant: string, queueId: string): Promise<void> {
    const keys = [waitingDeliveriesKey(tenant)];
    await scripts.waitForSlot(this.#redis, keys, [queueId, RETENTION_MS]);
  }

  countWaiting(tenant: string): Promise<number> {
    return this.#redis.zcard(waitingDeliveriesKey(tenant));
  }

  /** The delivery does not wait for a slot any more. */
  async stopWaiting(tenant: string, queueId: string): Promise<void> {
    await this.#redis.zrem(waitingDeliveriesKey(tenant), queueId);
  }

  /** Takes the delivery that has waited longest for a slot. @returns its BullMQ id, or null */
  async nextWaiting(tenant: string): Promise<string | null> {
    const [queueId] = await this.#redis.zpopmin(waitingDeliveriesKey(tenant));
    return queueId ?? null;
  }

  /** Makes the delivery pending again. @returns the new round, or null if there is no such delivery */
  async replay(tenant: string, id: string): Promise<number | null> {
    const keys = [deliveryKey(tenant, id), attemptsKey(tenant, id)];
    const args = [await redisNow(this.#redis), RETENTION_MS];
    const round = Number(await scripts.replayDelivery(this.#redis, keys, args));
    return round === 0 ? null : round;
  }
}

/** The list of deliveries with this message. A job may have many messages before its end, and they must not displace ends. */
function listKey(tenant: string, { type }: WebhookMessage): string {
  const isBeforeEnd = isEventBeforeEnd(type as WebhookEvent);
  return isBeforeEnd ? deliveriesBeforeEndKey(tenant) : deliveriesKey(tenant);
}

async function readAttempts(
  redis: RedisClient,
  tenant: string,
  deliveryId: string,
): Promise<DeliveryAttempt[]> {
  const attempts = await redis.lrange(attemptsKey(tenant, deliveryId), 0, -1);
  return attempts.map((attempt) => v.parse(StoredAttempt, attempt));
}

const StoredAttempt = v.pipe(
  fromJson,
  v.object({
    attempt: v.number(),
    at: v.number(),
    status: v.nullable(v.number()),
    error: v.nullable(v.string()),
    duration_ms: v.number(),
  }),
);
