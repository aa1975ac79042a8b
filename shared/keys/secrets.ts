/** How API keys and tickets are made, and how a key is hashed: only the hash is stored. */
import { sha256Hex, toBase64Url } from "../ids.ts";

/** `tt_` and 32 random bytes in base64url. */
export const newApiKey = (): string => newSecret("tt");
/** `tk_` and 32 random bytes in base64url. */
export const newTicket = (): string => newSecret("tk");

function newSecret(prefix: string): string {
  return `${prefix}_${toBase64Url(crypto.getRandomValues(new Uint8Array(32)))}`;
}

/** A key has 256 random bits, so no salt or slow hash is needed. */
export const hashApiKey = (key: string): Promise<string> => sha256Hex(key);
