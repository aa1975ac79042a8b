/**
 * API keys and tenants in Redis. Of a key only its SHA-256 is stored. A key's id stays when it is rotated, and what is counted for it with it.
 */
import * as v from "valibot";
import { hashApiKey, newApiKey, newId } from "./api-key.ts";
import { ApiKeyRecord } from "./job.ts";
import * as scripts from "./key-scripts.ts";
import { Policy } from "./policy.ts";
import {
  API_KEYS_KEY,
  apiKeyKey,
  batchPoolId,
  KEY_HASH_PREFIX,
  KEY_RATES_PREFIX,
  keyHashKey,
  tenantKeysKey,
} from "./redis-keys.ts";
import type { RedisClient } from "./redis-client.ts";
import { SigningStore } from "./signing-store.ts";

/** The part of an ioredis client that the registry needs. */
export interface RegistryClient extends RedisClient {
  eval(script: string, keyCount: number, ...args: (string | number)[]): Promise<unknown>;
  set(key: string, value: string): Promise<unknown>;
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
  readonly #signing: SigningStore;

  constructor(redis: RegistryClient) {
    this.#redis = redis;
    this.#signing = new SigningStore(redis);
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
    // It comes first: an API key whose tenant has none would make webhooks that cannot be signed.
    const signing = await this.#signing.create(tenant);
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
    return { id, key, tenant, webhookSecret: signing?.secret ?? null };
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
      this.#redis.del(KEY_RATES_PREFIX + batchPoolId(id)),
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
  async webhookSecret(tenant: string): Promise<string | null> {
    const [key] = await this.#signing.live(tenant);
    return key?.secret ?? null;
  }

  /** A new secret; the old one signs beside it for `overlapMs`. Null if there is no such tenant. */
  async rotateWebhookSecret(tenant: string, overlapMs: number): Promise<string | null> {
    if ((await this.webhookSecret(tenant)) === null) return null;
    return (await this.#signing.rotate(tenant, overlapMs)).secret;
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
