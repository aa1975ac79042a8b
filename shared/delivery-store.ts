/**
 * Webhook deliveries in Redis: one record for each message and receiver, with its attempts. The queue only says when
 * the next attempt is due. A replay begins a new round, which fences what the queue still has of the one before.
 */
import * as v from "valibot";
import { count, countOrNull, fromJson } from "./record-fields.ts";
import { LIMITS } from "./limits.ts";
import { script, type RedisClient, type Script } from "./redis-client.ts";
import { attemptsKey, deliveriesKey, deliveryKey } from "./redis-keys.ts";
import { deliveryIdOf, type Message, type Origin } from "./webhook.ts";
import type { DeliveryAttempt, DeliveryState } from "./webhook-contract.ts";

/** How long a delivery can be read and replayed: well beyond its last attempt. */
const RETENTION_MS = 7 * 24 * 3_600_000;

/**
 * KEYS: delivery hash, sorted set of deliveries. ARGV: id, nowMs, retentionMs, deliveries listed at most, prefixes of
 * delivery hashes and of lists of attempts, then field, value, ... of the hash. Returns its state and round, also if it existed.
 * What falls off the list is deleted, unless it is still being tried.
 */
const CREATE = `
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 7))
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
  redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
  for _, old in ipairs(redis.call('ZRANGE', KEYS[2], 0, -tonumber(ARGV[4]) - 1)) do
    redis.call('ZREM', KEYS[2], old)
    if redis.call('HGET', ARGV[5] .. old, 'state') ~= 'pending' then
      redis.call('DEL', ARGV[5] .. old, ARGV[6] .. old)
    end
  end
end
return redis.call('HMGET', KEYS[1], 'state', 'round')
`;

/**
 * KEYS: delivery hash, list of attempts, sorted set of deliveries. ARGV: round, attempt (JSON), state, nextAtMs, attempts
 * kept at most, id. An attempt of a round that a replay has ended is noted and decides nothing. What is over and no longer
 * listed is deleted.
 */
const RECORD = `
local ttl = redis.call('PTTL', KEYS[1])
if ttl < 0 then return 0 end
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
redis.call('RPUSH', KEYS[2], ARGV[2])
redis.call('LTRIM', KEYS[2], -tonumber(ARGV[5]), -1)
redis.call('PEXPIRE', KEYS[2], ttl)
if redis.call('HGET', KEYS[1], 'round') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'state', ARGV[3], 'nextAtMs', ARGV[4])
  if ARGV[3] ~= 'pending' and not redis.call('ZSCORE', KEYS[3], ARGV[6]) then
    redis.call('DEL', KEYS[1], KEYS[2])
  end
end
return 1
`;

/** KEYS: delivery hash, list of attempts. ARGV: nowMs, retentionMs. Returns the new round; 0 if there is no delivery. */
const REPLAY = `
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'state', 'pending', 'nextAtMs', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return redis.call('HINCRBY', KEYS[1], 'round', 1)
`;

/** A delivery without its body, which may be long. */
const Stored = v.object({
  id: v.string(),
  messageId: v.string(),
  type: v.string(),
  /** Empty for the URL that a job named. */
  endpointId: v.string(),
  /** Empty for a test. */
  jobId: v.string(),
  url: v.string(),
  state: v.picklist(["pending", "delivered", "failed"]),
  /** Counts from 1; rises with each replay. */
  round: count,
  /** Attempts so far, of all rounds. */
  attempts: count,
  createdAtMs: count,
  nextAtMs: countOrNull,
  /** JSON. */
  origin: v.optional(
    v.pipe(
      fromJson,
      v.transform((origin) => origin as Origin),
    ),
    "{}",
  ),
});
export type DeliveryRecord = v.InferOutput<typeof Stored>;

const FIELDS = Object.keys(Stored.entries) as (keyof DeliveryRecord)[];

export class DeliveryStore {
  readonly #redis: RedisClient;
  readonly #create: Script;
  readonly #record: Script;
  readonly #replay: Script;

  constructor(redis: RedisClient) {
    this.#redis = redis;
    this.#create = script(redis, "CREATE_DELIVERY", 2, CREATE);
    this.#record = script(redis, "RECORD_ATTEMPT", 3, RECORD);
    this.#replay = script(redis, "REPLAY_DELIVERY", 2, REPLAY);
  }

  /** Idempotent: a message has one delivery to a receiver. */
  async create(
    tenant: string,
    message: Message,
    to: { readonly endpointId: string | null; readonly url: string },
  ): Promise<{ id: string; state: DeliveryState; round: number }> {
    const id = deliveryIdOf(message.id, to.endpointId);
    const nowMs = Date.now();
    const record: Record<keyof DeliveryRecord, string | number> = {
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
    const [state, round] = (await this.#create(
      deliveryKey(tenant, id),
      deliveriesKey(tenant),
      id,
      nowMs,
      RETENTION_MS,
      LIMITS.deliveriesListedMax,
      deliveryKey(tenant, ""),
      attemptsKey(tenant, ""),
      ...Object.entries({ ...record, body: message.body }).flat(),
    )) as [DeliveryState, string];
    return { id, state, round: Number(round) };
  }

  async one(tenant: string, id: string): Promise<DeliveryRecord | null> {
    const values = await this.#redis.hmget(deliveryKey(tenant, id), ...FIELDS);
    if (values[0] == null) return null;
    const fields = FIELDS.map((field, i) => [field, values[i] ?? undefined]);
    return v.parse(Stored, Object.fromEntries(fields));
  }

  /** What is sent; null once the delivery is forgotten. */
  body(tenant: string, id: string): Promise<string | null> {
    return this.#redis.hget(deliveryKey(tenant, id), "body");
  }

  /** The latest, oldest first. */
  async attempts(tenant: string, id: string): Promise<DeliveryAttempt[]> {
    return readAttempts(this.#redis, tenant, id);
  }

  /** Ids of the tenant's deliveries, the newest first. */
  async ids(tenant: string): Promise<string[]> {
    const everyTime = [0, Number.MAX_SAFE_INTEGER] as const;
    const page = ["LIMIT", 0, LIMITS.deliveriesListedMax] as const;
    return (
      await this.#redis.zrangebyscore(deliveriesKey(tenant), ...everyTime, ...page)
    ).toReversed();
  }

  async delete(tenant: string, id: string): Promise<void> {
    await Promise.all([
      this.#redis.del(deliveryKey(tenant, id)),
      this.#redis.del(attemptsKey(tenant, id)),
      this.#redis.zrem(deliveriesKey(tenant), id),
    ]);
  }

  /** @param nextAtMs when the next attempt is due, or null after the last one */
  async record(
    tenant: string,
    { id, round }: Pick<DeliveryRecord, "id" | "round">,
    attempt: DeliveryAttempt,
    state: DeliveryState,
    nextAtMs: number | null,
  ): Promise<void> {
    await this.#record(
      deliveryKey(tenant, id),
      attemptsKey(tenant, id),
      deliveriesKey(tenant),
      round,
      JSON.stringify(attempt),
      state,
      nextAtMs ?? "",
      LIMITS.deliveryAttemptsKeptMax,
      id,
    );
  }

  /** Makes it pending again. @returns the new round, or null if there is no such delivery */
  async replay(tenant: string, id: string): Promise<number | null> {
    const keys = [deliveryKey(tenant, id), attemptsKey(tenant, id)];
    const round = Number(await this.#replay(...keys, Date.now(), RETENTION_MS));
    return round === 0 ? null : round;
  }
}

export async function readAttempts(
  redis: RedisClient,
  tenant: string,
  deliveryId: string,
): Promise<DeliveryAttempt[]> {
  const attempts = await redis.lrange(attemptsKey(tenant, deliveryId), 0, -1);
  return attempts.map((attempt) => v.parse(Attempt, attempt));
}

const Attempt = v.pipe(
  fromJson,
  v.object({
    attempt: v.number(),
    at: v.number(),
    status: v.nullable(v.number()),
    error: v.nullable(v.string()),
    duration_ms: v.number(),
  }),
);
