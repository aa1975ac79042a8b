/** Secrets and ids: their forms, and the hash of a key that alone is stored. */

/** `tt_` and 32 random bytes in base64url. */
export const newApiKey = (): string => newSecret("tt");
export const newTicket = (): string => newSecret("tk");

function newSecret(prefix: string): string {
  return `${prefix}_${toBase64Url(crypto.getRandomValues(new Uint8Array(32)))}`;
}

/** A random id with a speaking prefix, such as `job_…`: 18 random bytes, 24 characters. */
export function newId(prefix: string): string {
  return `${prefix}_${toBase64Url(crypto.getRandomValues(new Uint8Array(18)))
    .replaceAll("-", "0")
    .replaceAll("_", "1")}`;
}

/** A key has 256 random bits, so no salt or slow hash is needed. */
export const hashApiKey = (key: string): Promise<string> => sha256Hex(key);

export async function sha256Hex(text: string): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(text));
  return Array.from(new Uint8Array(digest), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** As Standard Webhooks writes a symmetric secret. */
export function newWebhookSecret(): string {
  return `whsec_${toBase64(crypto.getRandomValues(new Uint8Array(32)))}`;
}

const toBase64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes));

function toBase64Url(bytes: Uint8Array): string {
  return toBase64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
