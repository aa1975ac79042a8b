/**
 * API keys and tenants in Redis, for the command line, the demo and the tests.
 * Of a key only its SHA-256 is stored. A webhook secret is stored as it is, because signing needs it.
 */
import type { Redis } from "ioredis";
import * as v from "valibot";
import { hashApiKey, newApiKey, newId } from "../shared/api-key.ts";
import { ApiKeyRecord } from "../shared/job.ts";
import { API_KEYS_KEY, apiKeyKey, tenantKey } from "../shared/redis-keys.ts";
import { Problem } from "./stack/problem.ts";

const NAME = /^[^\p{Cc}]{1,128}$/u;
const TENANT = /^[A-Za-z0-9_-]{1,64}$/;

export interface NewKey {
  readonly id: string;
  /** The key itself, which nobody can show again. */
  readonly key: string;
  readonly tenant: string;
  /** The tenant's webhook secret if the tenant is new, else null. */
  readonly webhookSecret: string | null;
}

export class KeyRegistry {
  readonly #redis: Redis;

  constructor(redis: Redis) {
    this.#redis = redis;
  }

  /** @param tenant whose jobs the key sees; without it, a new one, so that nobody shares jobs by accident */
  async create(name: string, tenant = newId("tenant")): Promise<NewKey> {
    if (!NAME.test(name)) throw new Problem("a key's name has 1 to 128 printable characters");
    if (!TENANT.test(tenant)) {
      throw new Problem("a tenant has 1 to 64 letters, digits, underscores and hyphens");
    }
    const id = newId("key");
    const key = newApiKey();
    const sha256 = await hashApiKey(key);
    const secret = newWebhookSecret();
    // The secret comes first: a key whose tenant has none would make webhooks that cannot be signed.
    const isNew = await this.#redis.hsetnx(tenantKey(tenant), "webhookSecret", secret);
    await this.#redis
      .multi()
      .hset(apiKeyKey(sha256), { id, name, tenant, createdAtMs: Date.now() })
      .hset(API_KEYS_KEY, id, sha256)
      .exec();
    return { id, key, tenant, webhookSecret: isNew === 1 ? secret : null };
  }

  /** Oldest first. */
  async list(): Promise<ApiKeyRecord[]> {
    const hashes = await this.#redis.hvals(API_KEYS_KEY);
    const records = await Promise.all(
      hashes.map((sha256) => this.#redis.hgetall(apiKeyKey(sha256))),
    );
    return records
      .filter((record) => Object.keys(record).length > 0)
      .map((record) => v.parse(ApiKeyRecord, record))
      .sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  /** The key is refused from now on; jobs made with it go on. False if there is no such key. */
  async revoke(id: string): Promise<boolean> {
    const sha256 = await this.#redis.hget(API_KEYS_KEY, id);
    if (sha256 === null) return false;
    await this.#redis.multi().del(apiKeyKey(sha256)).hdel(API_KEYS_KEY, id).exec();
    return true;
  }

  /** Null if there is no such tenant. */
  webhookSecret(tenant: string): Promise<string | null> {
    return this.#redis.hget(tenantKey(tenant), "webhookSecret");
  }

  /** Replaces the secret at once, also for deliveries that are still tried; null if there is no such tenant. */
  async rotateWebhookSecret(tenant: string): Promise<string | null> {
    if ((await this.webhookSecret(tenant)) === null) return null;
    const secret = newWebhookSecret();
    await this.#redis.hset(tenantKey(tenant), "webhookSecret", secret);
    return secret;
  }
}

/** As Standard Webhooks writes a symmetric secret. */
function newWebhookSecret(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(32));
  return `whsec_${Buffer.from(bytes).toString("base64")}`;
}
