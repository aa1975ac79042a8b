/** The tenants' webhook endpoints in Redis, and their health: since when attempts fail, and whether they are disabled. */
import * as v from "valibot";
import { fromJson } from "../redis/fields.ts";
import { LIMITS } from "../api/limits.ts";
import type { RedisClient } from "../redis/client.ts";
import { redisNow } from "../redis/clock.ts";
import { parseRecord, versionField } from "../redis/version.ts";
import type { Script } from "../redis/script.ts";
import * as scripts from "./scripts.ts";
import { endpointHealthKey, endpointsKey } from "../redis/keys.ts";
import { isEventBeforeEnd, WEBHOOK_EVENTS } from "../api/webhooks.ts";

/** An endpoint is disabled when every attempt has failed for this long: about as long as one delivery is attempted. */
const FAILING_MAX_MS = 72 * 3_600_000;

/** Version of endpoint records (redis/version.ts). */
const ENDPOINT_VERSION = 2;
/** Version of a record without events of responses and of progress, which the release before reads. */
const ENDPOINT_VERSION_BEFORE = 1;

const EndpointRecord = v.strictObject({
  version: versionField(ENDPOINT_VERSION),
  id: v.string(),
  url: v.string(),
  /** Null for every end. */
  events: v.nullable(v.array(v.picklist(WEBHOOK_EVENTS))),
  description: v.string(),
  createdAtMs: v.number(),
});
export type EndpointRecord = Omit<v.InferOutput<typeof EndpointRecord>, "version">;

const Disabled = v.object({ reason: v.string(), atMs: v.number() });

export interface Endpoint extends EndpointRecord {
  /** Null while it is enabled. */
  readonly disabled: v.InferOutput<typeof Disabled> | null;
  /** Since when every attempt has failed (Unix ms); null if the last one succeeded. */
  readonly failingSinceMs: number | null;
}

const StoredRecord = v.pipe(fromJson, EndpointRecord);
const StoredDisabled = v.pipe(fromJson, Disabled);

export class EndpointStore {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  async #disabledNow(reason: string): Promise<string> {
    return disabledJson(reason, await redisNow(this.#redis));
  }

  async #run(script: Script, tenant: string, ...args: (string | number)[]): Promise<boolean> {
    const keys = [endpointsKey(tenant), endpointHealthKey(tenant)];
    return (await script(this.#redis, keys, args)) === 1;
  }

  /**
   * Creates an endpoint. False if the tenant has as many as allowed.
   * @param disabledReason why it is disabled from the start; null if it is enabled
   */
  async create(
    tenant: string,
    record: EndpointRecord,
    disabledReason: string | null = null,
  ): Promise<boolean> {
    const disabled = disabledReason === null ? "" : await this.#disabledNow(disabledReason);
    const args = [record.id, toJson(record), LIMITS.webhookEndpointsMax, disabled];
    return this.#run(scripts.createEndpoint, tenant, ...args);
  }

  /** False if there is no such endpoint. */
  update(tenant: string, record: EndpointRecord): Promise<boolean> {
    return this.#run(scripts.updateEndpoint, tenant, record.id, toJson(record));
  }

  /** False if there was no such endpoint. */
  delete(tenant: string, id: string): Promise<boolean> {
    return this.#run(scripts.deleteEndpoint, tenant, id);
  }

  /** The tenant's endpoints, oldest first. */
  async list(tenant: string): Promise<Endpoint[]> {
    const [records, health] = await Promise.all([
      this.#redis.hgetall(endpointsKey(tenant)),
      this.#redis.hgetall(endpointHealthKey(tenant)),
    ]);
    return Object.entries(records)
      .map(([id, record]) => toEndpoint(record, health[`${id}:disabled`], health[`${id}:failing`]))
      .sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  async get(tenant: string, id: string): Promise<Endpoint | null> {
    const [record, [disabled, failing]] = await Promise.all([
      this.#redis.hget(endpointsKey(tenant), id),
      this.#redis.hmget(endpointHealthKey(tenant), `${id}:disabled`, `${id}:failing`),
    ]);
    return record === null ? null : toEndpoint(record, disabled, failing);
  }

  async disable(tenant: string, id: string, reason: string): Promise<void> {
    await this.#run(scripts.disableEndpoint, tenant, id, await this.#disabledNow(reason));
  }

  async enable(tenant: string, id: string): Promise<void> {
    await this.#run(scripts.enableEndpoint, tenant, id);
  }

  /** Records a failed attempt. True if the endpoint was disabled because of it. */
  recordFailure(tenant: string, id: string, nowMs: number): Promise<boolean> {
    const reason = `every attempt failed for ${FAILING_MAX_MS / 3_600_000} hours`;
    const args = [id, nowMs, FAILING_MAX_MS, disabledJson(reason, nowMs)];
    return this.#run(scripts.recordEndpointFailure, tenant, ...args);
  }

  /** Records a successful attempt: the endpoint does not count as failing any more. */
  async recordSuccess(tenant: string, id: string): Promise<void> {
    await this.#redis.hdel(endpointHealthKey(tenant), `${id}:failing`);
  }
}

/** Only what is of the record: an endpoint also has its health, which is stored beside it. */
function toJson({ id, url, events, description, createdAtMs }: EndpointRecord): string {
  const isNew = events?.some((event) => event.startsWith("response.") || isEventBeforeEnd(event));
  const version = isNew ? ENDPOINT_VERSION : ENDPOINT_VERSION_BEFORE;
  return JSON.stringify({ id, url, events, description, createdAtMs, version });
}

/** @throws NewerRecord */
function toEndpoint(
  stored: string,
  disabled: string | null | undefined,
  failing: string | null | undefined,
): Endpoint {
  const { version: _, ...record } = parseRecord(StoredRecord, stored);
  return {
    ...record,
    disabled: disabled ? v.parse(StoredDisabled, disabled) : null,
    failingSinceMs: failing ? Number(failing) : null,
  };
}

const disabledJson = (reason: string, atMs: number) => JSON.stringify({ reason, atMs });
