/** Webhook signing keys: listing, rotation, and the public key set. */
import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import type { WebhookKey } from "../../../shared/api/webhooks.ts";
import { errorOf, newTenant, send } from "../harness.ts";

test("public keys need no API key, secrets are shown once, and a rotation keeps the old key for a while", async () => {
  const client = await newTenant({ scopes: ["jobs:write", "jobs:read", "admin"] });
  const keys = async () => {
    const reply = await client.get("/v1/webhook_keys");
    return reply.json<{ data: WebhookKey[]; jwks_url: string }>();
  };
  const { data: before, jwks_url } = await keys();
  expect(before).toMatchObject([{ public_key: expect.stringMatching(/^whpk_/), expires_at: null }]);
  expect(jwks_url).toBe(`http://edge.test/.well-known/jwks.json?tenant=${client.tenant}`);

  const rotated = await client.post("/v1/webhook_keys/rotate", { overlap_seconds: 60 });
  expect(rotated.status).toBe(201);
  expect(rotated.headers.get("cache-control")).toBe("no-store");
  const { id, secret } = await rotated.json<{ id: string; secret: string }>();
  expect(() => new Webhook(secret)).not.toThrow();
  const { data: after } = await keys();
  expect(after.map((key) => key.id)).toEqual([id, before[0]!.id]);
  expect(after[1]!.expires_at! - Date.now() / 1000).toBeGreaterThan(50);
  expect(JSON.stringify(after)).not.toContain("whsec_");

  const jwks = await send(new URL(jwks_url).pathname + new URL(jwks_url).search);
  expect(jwks.headers.get("content-type")).toBe("application/jwk-set+json");
  const text = await jwks.text();
  const { keys: jwk } = JSON.parse(text) as { keys: { kid: string; x: string }[] };
  expect(jwk.map(({ kid }) => kid)).toEqual(after.map((key) => key.id));
  for (const [i, { x }] of jwk.entries()) {
    const raw = x.replaceAll("-", "+").replaceAll("_", "/");
    expect(after[i]!.public_key).toBe(`whpk_${raw}=`);
    expect(Object.keys(jwk[i]!).sort()).toEqual(["alg", "crv", "kid", "kty", "use", "x"]);
  }

  // At most two keys sign: another rotation ends the first.
  await client.post("/v1/webhook_keys/rotate", {});
  expect((await keys()).data.map((key) => key.id)).toEqual([expect.any(String), id]);
  await client.post("/v1/webhook_keys/rotate", { overlap_seconds: 0 });
  expect((await keys()).data).toHaveLength(1);
});

test("the key set of a tenant that does not exist looks like that of one that exists, and stays the same", async () => {
  const keySet = async (tenant: string) => {
    const reply = await send(`/.well-known/jwks.json?tenant=${tenant}`);
    return reply.json<{ keys: JsonWebKey[] }>();
  };
  const { tenant } = await newTenant();
  const [known, unknown, other] = [await keySet(tenant), await keySet("no"), await keySet("none")];
  const form = ({ keys }: typeof known) =>
    keys.map((key) => ({ ...key, kid: "", x: Object.entries(key).map(([k, v]) => [k, v.length]) }));
  expect(form(unknown)).toEqual(form(known));
  expect(await keySet("no")).toEqual(unknown);
  expect(other.keys[0]!.x).not.toBe(unknown.keys[0]!.x);
  // A point of the curve, as a key that signs.
  await crypto.subtle.importKey("jwk", unknown.keys[0]!, "Ed25519", true, ["verify"]);
});

test("the tenant of a key set is required", async () => {
  expect(await errorOf(await send("/.well-known/jwks.json"))).toMatchObject({
    status: 400,
    param: "tenant",
  });
});
