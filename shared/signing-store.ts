/** The tenants' signing keys in Redis: one, or two while a rotation's overlap lasts. */
import * as v from "valibot";
import { fromJson } from "./record-fields.ts";
import { script, type RedisClient, type Script } from "./redis-client.ts";
import { signingKeysKey } from "./redis-keys.ts";
import { newSigningKey, SigningKey } from "./signing.ts";

/** KEYS[1] = hash of signing keys. ARGV: the new key (JSON), Unix ms until which the present one goes on signing. */
const ROTATE = `
local current = redis.call('HGET', KEYS[1], 'current')
if current then redis.call('HSET', KEYS[1], 'previous', current, 'previousUntilMs', ARGV[2]) end
redis.call('HSET', KEYS[1], 'current', ARGV[1])
return 1
`;

const Stored = v.pipe(fromJson, SigningKey);

/** A key that signs now, and until when if it is being replaced. */
export interface LiveKey extends SigningKey {
  readonly untilMs: number | null;
}

export class SigningStore {
  readonly #redis: RedisClient;
  readonly #rotate: Script;

  constructor(redis: RedisClient) {
    this.#redis = redis;
    this.#rotate = script(redis, "ROTATE_SIGNING_KEY", 1, ROTATE);
  }

  /** Gives a new tenant its first key; null if it has one. */
  async create(tenant: string): Promise<SigningKey | null> {
    const key = await newSigningKey();
    const stored = JSON.stringify(key);
    const isNew = await this.#redis.hsetnx(signingKeysKey(tenant), "current", stored);
    return isNew === 1 ? key : null;
  }

  /** The keys that sign now, the newest first; none if there is no such tenant. */
  async live(tenant: string): Promise<LiveKey[]> {
    const [current, previous, untilMs] = await this.#redis.hmget(
      signingKeysKey(tenant),
      "current",
      "previous",
      "previousUntilMs",
    );
    if (!current) return [];
    const keys: LiveKey[] = [{ ...v.parse(Stored, current), untilMs: null }];
    if (previous && Number(untilMs) > Date.now()) {
      keys.push({ ...v.parse(Stored, previous), untilMs: Number(untilMs) });
    }
    return keys;
  }

  /** A new key signs from now on; the one before it goes on beside it for `overlapMs`, one older than that ends. */
  async rotate(tenant: string, overlapMs: number): Promise<SigningKey> {
    const key = await newSigningKey();
    const untilMs = Date.now() + overlapMs;
    await this.#rotate(signingKeysKey(tenant), JSON.stringify(key), untilMs);
    return key;
  }
}
