/** How API keys and tickets are made, and how a key is hashed: only the hash is stored. */
import { sha256Hex, toBase64Url } from "../ids.ts";

/** `tt_` and 32 random bytes in base64url; `tt1_…` for a tenant on shard 1, and so on (redis/shards.ts). */
export const newApiKey = (shard = 0): string => newSecret(`tt${shard || ""}`);
/** The same with `tk`. */
export const newTicket = (shard = 0): string => newSecret(`tk${shard || ""}`);

/** The shard of the tenant that an API key or a ticket belongs to. */
export const shardOf = (secret: string): number =>
  Number(/^t[tk](\d{1,2})_/.exec(secret)?.[1] ?? 0);

function newSecret(prefix: string): string {
  return `${prefix}_${toBase64Url(crypto.getRandomValues(new Uint8Array(32)))}`;
}

/** A key has 256 random bits, so no salt or slow hash is needed. */
export const hashApiKey = (key: string): Promise<string> => sha256Hex(key);
