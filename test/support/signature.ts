/** Verifies the `v1a` (Ed25519) signatures of Standard Webhooks with node:crypto. */
import { createPublicKey, verify } from "node:crypto";
import { publicJwk, type SigningKey } from "../../shared/webhooks/signing.ts";
import type { Received } from "./receiver.ts";

export const headersOf = ({ headers }: Received) => headers as Record<string, string>;

/** Whether one of the request's `v1a` signatures is by this key. */
export function verifiesEd25519(key: SigningKey, request: Received): boolean {
  const headers = headersOf(request);
  const text = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${request.body}`;
  const publicKey = createPublicKey({ key: publicJwk(key), format: "jwk" });
  return headers["webhook-signature"]!.split(" ")
    .filter((signature) => signature.startsWith("v1a,"))
    .some((signature) =>
      verify(null, Buffer.from(text), publicKey, Buffer.from(signature.slice(4), "base64")),
    );
}
