/** The `v1a` signature of Standard Webhooks, verified by node:crypto. */
import { createPublicKey, verify } from "node:crypto";
import { publicJwk, type SigningKey } from "../../shared/signing.ts";
import type { Received } from "./receiver.ts";

export const headersOf = ({ headers }: Received) => headers as Record<string, string>;

/** Whether one of the request's signatures is by this key pair. */
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
