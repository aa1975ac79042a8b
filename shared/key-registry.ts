/**
 * API keys and tenants in Redis. Of a key only its SHA-256 is stored. A webhook secret is stored as it is, because
 * signing needs it. A key's id stays when it is rotated, and what is counted for it with it.
 */
import * as v from "valibot";
import { hashApiKey, newApiKey, newId, newWebhookSecret } from "./api-key.ts";
import { ApiKeyRecord } from "./job.ts";
import * as scripts from "./key-scripts.ts";
import { Policy } from "./policy.ts";
import {
  API_KEYS_KEY,
  apiKeyKey,
  KEY_HASH_PREFIX,
  KEY_RATES_PREFIX,
  keyHashKey,
  tenantKey,
  tenantKeysKey,
} from "./redis-keys.ts";

/** The part of an ioredis client that the registry needs. */
export interface RegistryClient {
  eval(script: string, keyCount: number, ...args: (string | number)[]): Promise<unknown>;
  del(key: string): Promise<number>;
  get(key: string): Promise<string | null>;
  set(key: string, value: string): Promise<unknown>;
  hget(key: string, field: string): Promise<string | null>;
  hgetall(key: string): Promise<Record<string, string>>;
  hset(key: string, fields: Record<string, string>): Promise<unknown>;
  hsetnx(key: string, field: string, value: string): Promise<number>;
  sadd(key: string, member: string): Promise<unknown>;
  scard(key: string): Promise<number>;
  smembers(key: string): Promise<string[]>;
  srem(key: string, member: string): Promise<unknown>;
}

export interface NewKey {
  readonly id: string;
  /** The key itself, which nobody can show again. */
  readonly key: string;
  readonly tenant: string;
  /** The tenant's webhook secret if the tenant is new, else null. */
  readonly webhookSecret: string | null;
}

export class KeyRegistry {
  readonly #redis: RegistryClient;

  constructor(redis: RegistryClient) {
    this.#redis = redis;
  }

  /** @param tenant whose jobs the key sees; without it, a new one, so that nobody shares jobs by accident */
  async create(
    name: string,
    tenant = newId("tenant"),
    policy: Policy = v.parse(Policy, {}),
  ): Promise<NewKey> {
    const id = newId("key");
    const key = newApiKey();
    const sha256 = await hashApiKey(key);
    const secret = newWebhookSecret();
    // The secret comes first: a key whose tenant has none would make webhooks that cannot be signed.
    const isNew = await this.#redis.hsetnx(tenantKey(tenant), "webhookSecret", secret);
    const record = {
      id,
      name,
      tenant,
      sha256,
      createdAtMs: String(Date.now()),
      scopes: JSON.stringify(policy.scopes),
      limits: JSON.stringify(policy.limits),
    };
    // The hash comes last: from then on the key works, and all that a revocation needs is there.
    await Promise.all([
      this.#redis.hset(apiKeyKey(id), record),
      this.#redis.sadd(API_KEYS_KEY, id),
      this.#redis.sadd(tenantKeysKey(tenant), id),
      this.#redis.set(keyHashKey(sha256), id),
    ]);
    return { id, key, tenant, webhookSecret: isNew === 1 ? secret : null };
  }

  /** The record of the key with this SHA-256, or null. */
  async authenticate(sha256: string): Promise<ApiKeyRecord | null> {
    const reply = await this.#redis.eval(scripts.AUTHENTICATE, 1, keyHashKey(sha256));
    return toRecord(fieldsOf(reply as string[]));
  }

  async read(id: string): Promise<ApiKeyRecord | null> {
    return toRecord(await this.#redis.hgetall(apiKeyKey(id)));
  }

  /** Oldest first; of all tenants without one. */
  async list(tenant?: string): Promise<ApiKeyRecord[]> {
    const ids = await this.#redis.smembers(
      tenant === undefined ? API_KEYS_KEY : tenantKeysKey(tenant),
    );
    const records = await Promise.all(ids.map((id) => this.read(id)));
    return records
      .filter((record) => record !== null)
      .sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  count(tenant: string): Promise<number> {
    return this.#redis.scard(tenantKeysKey(tenant));
  }

  /** The key is refused from now on, a rotated one too; jobs made with it go on. False if there is no such key. */
  async revoke(id: string): Promise<boolean> {
    const fields = await this.#redis.hgetall(apiKeyKey(id));
    const { tenant, sha256 } = fields;
    if (tenant === undefined || sha256 === undefined) return false;
    await Promise.all([
      this.#redis.del(apiKeyKey(id)),
      this.#redis.del(KEY_RATES_PREFIX + id),
      this.#redis.del(keyHashKey(sha256)),
      this.#redis.srem(API_KEYS_KEY, id),
      this.#redis.srem(tenantKeysKey(tenant), id),
    ]);
    return true;
  }

  /**
   * A new secret for the key, which alone works after the overlap; null if there is no such key.
   * @param overlapSeconds for which the old secret works too
   */
  async rotate(id: string, overlapSeconds: number): Promise<string | null> {
    const key = newApiKey();
    const sha256 = await hashApiKey(key);
    const keys = [apiKeyKey(id), keyHashKey(sha256)];
    const args = [id, sha256, overlapSeconds * 1000, KEY_HASH_PREFIX];
    const reply = await this.#redis.eval(scripts.ROTATE, keys.length, ...keys, ...args);
    return reply === 1 ? key : null;
  }

  /** Null if there is no such tenant. */
  webhookSecret(tenant: string): Promise<string | null> {
    return this.#redis.hget(tenantKey(tenant), "webhookSecret");
  }

  /** Replaces the secret at once, also for deliveries that are still tried; null if there is no such tenant. */
  async rotateWebhookSecret(tenant: string): Promise<string | null> {
    if ((await this.webhookSecret(tenant)) === null) return null;
    const secret = newWebhookSecret();
    await this.#redis.hset(tenantKey(tenant), { webhookSecret: secret });
    return secret;
  }
}

function toRecord(fields: Record<string, string>): ApiKeyRecord | null {
  return Object.keys(fields).length === 0 ? null : v.parse(ApiKeyRecord, fields);
}

/** From Lua's flat list of fields and values. */
function fieldsOf(list: readonly string[]): Record<string, string> {
  const pairs = Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i], list[2 * i + 1]]);
  return Object.fromEntries(pairs) as Record<string, string>;
}
