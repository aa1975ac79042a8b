/**
 * API keys and tenants in Redis. Only the SHA-256 of a key is stored. A rotated key keeps its id, its limits and what is left
 * of them.
 */
import * as v from "valibot";
import { hashApiKey, newApiKey } from "./secrets.ts";
import { newId } from "../ids.ts";
import { ApiKeyRecord, keyVersion, mayCreateKeys, withinOf } from "./record.ts";
import * as scripts from "./scripts.ts";
import { AppError } from "../api/errors.ts";
import { KeyPolicy, type KeyGrant, type Scope } from "../api/keys.ts";
import { LIMITS } from "../api/limits.ts";
import { API_KEYS_KEY, apiKeyKey, keyChannel, keyHashKey, tenantKeysKey } from "../redis/keys.ts";
import type { RedisClient } from "../redis/client.ts";
import { redisNow } from "../redis/clock.ts";
import { parseRecord } from "../redis/version.ts";
import { SigningStore } from "../webhooks/signing-store.ts";

/** The commands that the registry uses of an ioredis client. */
export interface RegistryClient extends RedisClient {
  smembers(key: string): Promise<string[]>;
}

export interface NewKey {
  readonly id: string;
  /** The key itself. It is not stored, so it can be shown only now. */
  readonly key: string;
  readonly tenant: string;
  /** The tenant's webhook secret if the tenant is new; else null. */
  readonly webhookSecret: string | null;
}

/** The rights of a key now. */
export interface KeyStanding {
  readonly scopes: readonly Scope[];
  /** Milliseconds until the secret that was asked for stops to work; Infinity for one without an end. */
  readonly secretEndsInMs: number;
}

export class KeyRegistry {
  readonly #redis: RegistryClient;
  readonly #shard: number;
  readonly #signing: SigningStore;

  /** @param shard the number of this Redis among several (redis/shards.ts) */
  constructor(redis: RegistryClient, shard = 0) {
    this.#redis = redis;
    this.#shard = shard;
    this.#signing = new SigningStore(redis);
  }

  /**
   * @param tenant whose jobs the key can read; the default is a new tenant, so that no jobs are shared by accident
   * @param maker the key whose limits hold for itself and the new key together; null for none
   * @throws AppError invalid_request if the tenant has as many keys as allowed
   */
  async create(
    name: string,
    tenant = newId("tenant"),
    policy: KeyGrant = v.parse(KeyPolicy, {}),
    maker: ApiKeyRecord | null = null,
  ): Promise<NewKey> {
    if (maker !== null && !mayCreateKeys(maker)) {
      const message = `An API key may be within at most ${LIMITS.keyLevelsMax} limited keys`;
      throw new AppError("invalid_request", message);
    }
    const id = newId("key");
    const key = newApiKey(this.#shard);
    const sha256 = await hashApiKey(key);
    // First the signing key: webhooks of a tenant without one could not be signed.
    const signing = await this.#signing.create(tenant);
    const record = {
      version: keyVersion(policy.scopes),
      id,
      name,
      tenant,
      sha256,
      createdAtMs: String(await redisNow(this.#redis)),
      scopes: JSON.stringify(policy.scopes),
      limits: JSON.stringify(policy.limits),
      within: JSON.stringify(maker === null ? [] : withinOf(maker)),
    };
    const keys = [apiKeyKey(id), keyHashKey(sha256), tenantKeysKey(tenant), API_KEYS_KEY];
    const args = [id, LIMITS.keysPerTenantMax, ...Object.entries(record).flat()];
    if ((await scripts.createKey(this.#redis, keys, args)) !== 1) {
      const message = `A tenant may have at most ${LIMITS.keysPerTenantMax} API keys; revoke one first`;
      throw new AppError("invalid_request", message);
    }
    return { id, key, tenant, webhookSecret: signing?.secret ?? null };
  }

  /** The record of the key with this SHA-256, or null. */
  async authenticate(sha256: string): Promise<ApiKeyRecord | null> {
    const reply = await scripts.authenticate(this.#redis, [keyHashKey(sha256)]);
    return toApiKeyRecord(fromFlatList(reply as string[]));
  }

  /**
   * The rights of a key now, or null if it was revoked or the secret does not work any more.
   * @param sha256 of the secret; null to ask for the key alone
   */
  async standing(id: string, sha256: string | null): Promise<KeyStanding | null> {
    const keys = [apiKeyKey(id), ...(sha256 === null ? [] : [keyHashKey(sha256)])];
    const reply = (await scripts.readStanding(this.#redis, keys)) as [string, number] | [];
    if (reply.length === 0) return null;
    const [scopes, endsInMs] = reply;
    return {
      scopes: v.parse(ApiKeyRecord.entries.scopes, scopes),
      secretEndsInMs: endsInMs < 0 ? Infinity : endsInMs,
    };
  }

  async get(id: string): Promise<ApiKeyRecord | null> {
    return toApiKeyRecord(await this.#redis.hgetall(apiKeyKey(id)));
  }

  /** The keys of a tenant, or of all tenants; oldest first. */
  async list(tenant?: string): Promise<ApiKeyRecord[]> {
    const ids = await this.#redis.smembers(
      tenant === undefined ? API_KEYS_KEY : tenantKeysKey(tenant),
    );
    const records = await Promise.all(ids.map((id) => this.get(id)));
    return records
      .filter((record) => record !== null)
      .sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  /**
   * Revokes a key, also one that is in the overlap of a rotation. Its streams end, its jobs continue. Its limits still hold for
   * the keys that it created.
   * @returns false if there is no such key
   */
  async revoke(id: string): Promise<boolean> {
    const keys = [apiKeyKey(id), API_KEYS_KEY, keyChannel(id)];
    return (await scripts.revoke(this.#redis, keys, [id])) === 1;
  }

  /**
   * Creates a new secret for a key. Null if there is no such key.
   * @param overlapSeconds how long the old secret also works
   */
  async rotate(id: string, overlapSeconds: number): Promise<string | null> {
    const key = newApiKey(this.#shard);
    const sha256 = await hashApiKey(key);
    const keys = [apiKeyKey(id), keyHashKey(sha256), keyChannel(id)];
    const args = [id, sha256, overlapSeconds * 1000];
    return (await scripts.rotate(this.#redis, keys, args)) === 1 ? key : null;
  }

  /** Null if there is no such tenant. */
  async webhookSecret(tenant: string): Promise<string | null> {
    const [key] = await this.#signing.liveKeys(tenant);
    return key?.secret ?? null;
  }

  /** Creates a new webhook secret; the old one also signs for `overlapMs`. Null if there is no such tenant. */
  async rotateWebhookSecret(tenant: string, overlapMs: number): Promise<string | null> {
    if ((await this.webhookSecret(tenant)) === null) return null;
    return (await this.#signing.rotate(tenant, overlapMs)).secret;
  }
}

function toApiKeyRecord(fields: Record<string, string>): ApiKeyRecord | null {
  return Object.keys(fields).length === 0 ? null : parseRecord(ApiKeyRecord, fields);
}

/** An object from a flat list: field, value, ... */
function fromFlatList(list: readonly string[]): Record<string, string> {
  const pairs = Array.from({ length: list.length / 2 }, (_, i) => [list[2 * i], list[2 * i + 1]]);
  return Object.fromEntries(pairs) as Record<string, string>;
}
