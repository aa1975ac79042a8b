/**
 * How webhooks are signed, after Standard Webhooks: every live key signs twice, with its secret (`v1`, HMAC-SHA256) and
 * with its key pair (`v1a`, Ed25519), so that a receiver may know either and needs to change nothing while keys rotate.
 */
import { Webhook } from "standardwebhooks";
import * as v from "valibot";
import { newId, newWebhookSecret } from "./api-key.ts";

/** What a tenant's webhooks are signed with. Secret and private key never leave Redis and the processes that sign. */
export const SigningKey = v.object({
  id: v.string(),
  createdAtMs: v.number(),
  /** `whsec_` and 32 random bytes in base64. */
  secret: v.string(),
  /** The Ed25519 key pair as JWK members: public and private part, base64url. */
  x: v.string(),
  d: v.string(),
});
export type SigningKey = v.InferOutput<typeof SigningKey>;

const ED25519 = "Ed25519";

export async function newSigningKey(): Promise<SigningKey> {
  const pair = await crypto.subtle.generateKey(ED25519, true, ["sign", "verify"]);
  if (!("privateKey" in pair)) throw new Error("Ed25519 keys come in pairs");
  const jwk = (await crypto.subtle.exportKey("jwk", pair.privateKey)) as Record<"x" | "d", string>;
  const secret = newWebhookSecret();
  return { id: newId("whkey"), createdAtMs: Date.now(), secret, x: jwk.x, d: jwk.d };
}

/** The headers of one attempt: the message's id, the time of this attempt, and two signatures of each key. */
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
      `v1a,${base64(await signEd25519(key, signed))}`,
    ]),
  );
  return {
    "content-type": "application/json",
    "webhook-id": messageId,
    "webhook-timestamp": timestamp,
    "webhook-signature": signatures.flat().join(" "),
  };
}

/** The public half as a JSON Web Key (RFC 8037). */
export function publicJwk({ id, x }: SigningKey) {
  return { kty: "OKP", crv: ED25519, x, kid: id, alg: "EdDSA", use: "sig" } as const;
}

/** The public half as Standard Webhooks writes it. */
export function publicKeyText({ x }: SigningKey): string {
  return `whpk_${x.replaceAll("-", "+").replaceAll("_", "/").padEnd(44, "=")}`;
}

async function signEd25519({ x, d }: SigningKey, text: string): Promise<Uint8Array> {
  const jwk = { kty: "OKP", crv: ED25519, x, d };
  const key = await crypto.subtle.importKey("jwk", jwk, ED25519, false, ["sign"]);
  return new Uint8Array(await crypto.subtle.sign(ED25519, key, new TextEncoder().encode(text)));
}

const base64 = (bytes: Uint8Array) => btoa(String.fromCharCode(...bytes));
