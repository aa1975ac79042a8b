/** The tenants' webhook endpoints in Redis, and whether they can be reached. */
import * as v from "valibot";
import { fromJson } from "./record-fields.ts";
import { LIMITS } from "./limits.ts";
import { script, type RedisClient, type Script } from "./redis-client.ts";
import { endpointHealthKey, endpointsKey } from "./redis-keys.ts";
import { WEBHOOK_EVENTS } from "./webhook-contract.ts";

/** An endpoint at which every attempt has failed for so long is disabled: the span of one delivery's attempts. */
const FAILING_MAX_MS = 72 * 3_600_000;

/** All take KEYS[1] = hash of endpoints, KEYS[2] = hash of their health, ARGV[1] = the endpoint's id. */
const scripts = {
  /** ARGV: id, record (JSON), endpoints at most, why it is disabled (JSON, or empty). Returns 0 if there are so many. */
  CREATE: `
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) then return 0 end
if ARGV[4] ~= '' then redis.call('HSET', KEYS[2], ARGV[1] .. ':disabled', ARGV[4]) end
return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])`,
  /** ARGV: id, record (JSON). Returns 0 if there is no such endpoint. */
  UPDATE: `
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1`,
  /** Returns 0 if there is no such endpoint. */
  DELETE: `
redis.call('HDEL', KEYS[2], ARGV[1] .. ':disabled', ARGV[1] .. ':failing')
return redis.call('HDEL', KEYS[1], ARGV[1])`,
  /** ARGV: id, why (JSON). The first reason stays. */
  DISABLE: `
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
return redis.call('HSETNX', KEYS[2], ARGV[1] .. ':disabled', ARGV[2])`,
  /** ARGV: id. What failed before counts no more. */
  ENABLE: `
return redis.call('HDEL', KEYS[2], ARGV[1] .. ':disabled', ARGV[1] .. ':failing')`,
  /** ARGV: id, nowMs, ms of failing at most, why it is disabled then (JSON). Returns 1 if that was now. */
  FAILED: `
if redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then return 0 end
redis.call('HSETNX', KEYS[2], ARGV[1] .. ':failing', ARGV[2])
local since = tonumber(redis.call('HGET', KEYS[2], ARGV[1] .. ':failing'))
if tonumber(ARGV[2]) - since < tonumber(ARGV[3]) then return 0 end
return redis.call('HSETNX', KEYS[2], ARGV[1] .. ':disabled', ARGV[4])`,
} as const;

const Stored = v.object({
  id: v.string(),
  url: v.string(),
  /** Null for every event. */
  events: v.nullable(v.array(v.picklist(WEBHOOK_EVENTS))),
  description: v.string(),
  createdAtMs: v.number(),
});
export type EndpointRecord = v.InferOutput<typeof Stored>;

const Disabled = v.object({ reason: v.string(), atMs: v.number() });

export interface Endpoint extends EndpointRecord {
  /** Null while it is enabled. */
  readonly disabled: v.InferOutput<typeof Disabled> | null;
}

const StoredRecord = v.pipe(fromJson, Stored);
const StoredDisabled = v.pipe(fromJson, Disabled);

export class EndpointStore {
  readonly #redis: RedisClient;
  readonly #scripts: Readonly<Record<string, Script>>;

  constructor(redis: RedisClient) {
    this.#redis = redis;
    this.#scripts = Object.fromEntries(
      Object.entries(scripts).map(([name, lua]) => [
        name,
        script(redis, `${name}_ENDPOINT`, 2, lua),
      ]),
    );
  }

  async #run(
    name: keyof typeof scripts,
    tenant: string,
    ...args: (string | number)[]
  ): Promise<boolean> {
    const keys = [endpointsKey(tenant), endpointHealthKey(tenant)];
    return (await this.#scripts[name]!(...keys, ...args)) === 1;
  }

  /** False if the tenant has as many as it may. */
  create(
    tenant: string,
    record: EndpointRecord,
    disabledFor: string | null = null,
  ): Promise<boolean> {
    const why = disabledFor === null ? "" : disabledJson(disabledFor);
    return this.#run(
      "CREATE",
      tenant,
      record.id,
      JSON.stringify(record),
      LIMITS.webhookEndpointsMax,
      why,
    );
  }

  /** False if there is no such endpoint. */
  update(tenant: string, record: EndpointRecord): Promise<boolean> {
    return this.#run("UPDATE", tenant, record.id, JSON.stringify(record));
  }

  /** False if there was no such endpoint. */
  delete(tenant: string, id: string): Promise<boolean> {
    return this.#run("DELETE", tenant, id);
  }

  /** Oldest first. */
  async all(tenant: string): Promise<Endpoint[]> {
    const [records, health] = await Promise.all([
      this.#redis.hgetall(endpointsKey(tenant)),
      this.#redis.hgetall(endpointHealthKey(tenant)),
    ]);
    return Object.entries(records)
      .map(([id, record]) => toEndpoint(record, health[`${id}:disabled`]))
      .sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  async one(tenant: string, id: string): Promise<Endpoint | null> {
    const [record, disabled] = await Promise.all([
      this.#redis.hget(endpointsKey(tenant), id),
      this.#redis.hget(endpointHealthKey(tenant), `${id}:disabled`),
    ]);
    return record === null ? null : toEndpoint(record, disabled);
  }

  async disable(tenant: string, id: string, reason: string): Promise<void> {
    await this.#run("DISABLE", tenant, id, disabledJson(reason));
  }

  async enable(tenant: string, id: string): Promise<void> {
    await this.#run("ENABLE", tenant, id);
  }

  /** Notes a failed attempt; true if it was one too many, and the endpoint is disabled now. */
  failed(tenant: string, id: string, nowMs: number): Promise<boolean> {
    const reason = `every attempt failed for ${FAILING_MAX_MS / 3_600_000} hours`;
    return this.#run("FAILED", tenant, id, nowMs, FAILING_MAX_MS, disabledJson(reason));
  }

  async received(tenant: string, id: string): Promise<void> {
    await this.#redis.hdel(endpointHealthKey(tenant), `${id}:failing`);
  }
}

function toEndpoint(record: string, disabled: string | null | undefined): Endpoint {
  return {
    ...v.parse(StoredRecord, record),
    disabled: disabled ? v.parse(StoredDisabled, disabled) : null,
  };
}

const disabledJson = (reason: string) => JSON.stringify({ reason, atMs: Date.now() });
