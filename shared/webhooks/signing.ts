/**
 * Signs webhooks as Standard Webhooks defines it. Every live key signs twice: with its secret (`v1`, HMAC-SHA256) and with
 * its key pair (`v1a`, Ed25519). A receiver can verify either, and needs no change while keys are rotated.
 */
import { Webhook } from "standardwebhooks";
import * as v from "valibot";
import { newId, toBase64, toId } from "../ids.ts";

/**
 * A key that signs a tenant's webhooks. Only Redis, the workers and the edge have the private part `d`; the tenant also gets
 * the secret.
 */
export const SigningKey = v.object({
  id: v.string(),
  createdAtMs: v.number(),
  /** `whsec_` and 32 random bytes in base64. */
  secret: v.string(),
  /** The Ed25519 key pair as JWK members (base64url): public part `x`, private part `d`. */
  x: v.string(),
  d: v.string(),
});
export type SigningKey = v.InferOutput<typeof SigningKey>;

/** The public parts of a key. */
export type PublicKey = Pick<SigningKey, "id" | "x">;

const ED25519 = "Ed25519";
/** The bytes before the 32 bytes of a private key in PKCS #8 (RFC 8410). */
const ED25519_PKCS8 = [48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32];

/** A new key with random secret and random key pair. */
export async function newSigningKey(createdAtMs: number): Promise<SigningKey> {
  const pair = await crypto.subtle.generateKey(ED25519, true, ["sign", "verify"]);
  if (!("privateKey" in pair)) throw new Error("Ed25519: expected a key pair");
  const jwk = (await crypto.subtle.exportKey("jwk", pair.privateKey)) as Record<"x" | "d", string>;
  const secret = newWebhookSecret();
  return { id: newId("whkey"), createdAtMs, secret, x: jwk.x, d: jwk.d };
}

/** A key pair without secret that depends only on the text. It signs nothing. */
export async function decoyKey(text: string): Promise<PublicKey> {
  const bytes = new TextEncoder().encode(text);
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-512", bytes));
  const der = Uint8Array.of(...ED25519_PKCS8, ...hash.subarray(0, 32));
  const pair = await crypto.subtle.importKey("pkcs8", der, ED25519, true, ["sign"]);
  const { x } = (await crypto.subtle.exportKey("jwk", pair)) as { x: string };
  return { id: toId("whkey", hash.subarray(32, 50)), x };
}

/** The headers of one attempt: the message's id, the time of the attempt, and two signatures by each key. */
export async function signedHeaders(
  keys: readonly SigningKey[],
  messageId: string,
  body: string,
  at: Date,
): Promise<Record<string, string>> {
  const timestamp = String(Math.floor(at.getTime() / 1000));
  const signed = `${messageId}.${timestamp}.${body}`;
  const signatures = await Promise.all(
    keys.map(async (key) => [
      new Webhook(key.secret).sign(messageId, at, body),
      `v1a,${toBase64(await signEd25519(key, signed))}`,
    ]),
  );
  return {
    "content-type": "application/json",
    "webhook-id": messageId,
    "webhook-timestamp": timestamp,
    "webhook-signature": signatures.flat().join(" "),
  };
}

/** The public key as a JSON Web Key (RFC 8037). */
export function publicJwk({ id, x }: PublicKey) {
  return { kty: "OKP", crv: ED25519, x, kid: id, alg: "EdDSA", use: "sig" } as const;
}

/** The public key in the notation of Standard Webhooks: `whpk_` and base64. */
export function publicKeyText({ x }: SigningKey): string {
  return `whpk_${x.replaceAll("-", "+").replaceAll("_", "/").padEnd(44, "=")}`;
}

async function signEd25519({ x, d }: SigningKey, text: string): Promise<Uint8Array> {
  const jwk = { kty: "OKP", crv: ED25519, x, d };
  const key = await crypto.subtle.importKey("jwk", jwk, ED25519, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign(ED25519, key, new TextEncoder().encode(text)));
}

/** A new secret in the notation of Standard Webhooks. */
function newWebhookSecret(): string {
  return `whsec_${toBase64(crypto.getRandomValues(new Uint8Array(32)))}`;
}
