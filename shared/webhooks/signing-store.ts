/** The keys that sign a tenant's webhooks, in Redis: one, or two during the overlap after a rotation. */
import * as v from "valibot";
import { toBase64 } from "../ids.ts";
import { fromJson } from "../redis/fields.ts";
import type { RedisClient } from "../redis/client.ts";
import { redisNow } from "../redis/clock.ts";
import { DECOY_KEY, signingKeysKey } from "../redis/keys.ts";
import { rotateSigningKey } from "./scripts.ts";
import { decoyKey, newSigningKey, SigningKey, type PublicKey } from "./signing.ts";

const StoredSigningKey = v.pipe(fromJson, SigningKey);

/** A key that signs now; `untilMs` (Unix ms) is set if it was replaced. */
export interface LiveKey extends SigningKey {
  readonly untilMs: number | null;
}

export class SigningStore {
  readonly #redis: RedisClient;

  constructor(redis: RedisClient) {
    this.#redis = redis;
  }

  /** Creates a tenant's first key. Null if the tenant has one. */
  async create(tenant: string): Promise<SigningKey | null> {
    const key = await newSigningKey(await redisNow(this.#redis));
    const stored = JSON.stringify(key);
    const isNew = await this.#redis.hsetnx(signingKeysKey(tenant), "current", stored);
    return isNew === 1 ? key : null;
  }

  /** The keys that sign now, newest first; none if there is no such tenant. */
  async liveKeys(tenant: string): Promise<LiveKey[]> {
    const fields = ["current", "previous", "previousUntilMs"];
    const [[current, previous, untilMs], nowMs] = await Promise.all([
      this.#redis.hmget(signingKeysKey(tenant), ...fields),
      redisNow(this.#redis),
    ]);
    if (!current) return [];
    const keys: LiveKey[] = [{ ...v.parse(StoredSigningKey, current), untilMs: null }];
    if (previous && Number(untilMs) > nowMs) {
      keys.push({ ...v.parse(StoredSigningKey, previous), untilMs: Number(untilMs) });
    }
    return keys;
  }

  /**
   * The public parts of the keys that sign now. For a tenant that does not exist it is a key that nobody has, always the
   * same, so that callers cannot find out which tenants exist.
   */
  async publicKeys(tenant: string): Promise<PublicKey[]> {
    // Both in any case: otherwise the time of the reply would tell.
    const [keys, decoy] = await Promise.all([this.liveKeys(tenant), this.#decoy(tenant)]);
    return keys.length > 0 ? keys : [decoy];
  }

  async #decoy(tenant: string): Promise<PublicKey> {
    let secret = await this.#redis.hget(DECOY_KEY, "secret");
    if (secret === null) {
      const random = toBase64(crypto.getRandomValues(new Uint8Array(32)));
      await this.#redis.hsetnx(DECOY_KEY, "secret", random);
      secret = await this.#redis.hget(DECOY_KEY, "secret");
    }
    return decoyKey(`${secret} ${tenant}`);
  }

  /** Creates a new key. The current key also signs for `overlapMs`; an older one does not sign any more. */
  async rotate(tenant: string, overlapMs: number): Promise<SigningKey> {
    const nowMs = await redisNow(this.#redis);
    const key = await newSigningKey(nowMs);
    const untilMs = nowMs + overlapMs;
    await rotateSigningKey(this.#redis, [signingKeysKey(tenant)], [JSON.stringify(key), untilMs]);
    return key;
  }
}
