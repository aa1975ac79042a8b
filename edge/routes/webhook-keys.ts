/** `/v1/webhook_keys`: the keys that sign a tenant's webhooks. Their public keys can be read without an API key. */
import * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import { field } from "../../shared/api/schema.ts";
import {
  JsonWebKeySet,
  NewWebhookKey,
  WebhookKeyRotationRequest,
  WebhookKeyList,
  type WebhookKey,
} from "../../shared/api/webhooks.ts";
import type { LiveKey } from "../../shared/webhooks/signing-store.ts";
import { publicJwk, publicKeyText } from "../../shared/webhooks/signing.ts";
import type { AppContext } from "../http/context.ts";
import { jsonBody, route, type ContractPart, type Route } from "../http/route.ts";

const OVERLAP_SECONDS = 24 * 3600;
/** A new key signs at once, but the key before it also signs for longer than this. */
const JWKS_CACHE_SECONDS = 300;

const TENANT: ContractPart = {
  query: {
    tenant: field(
      v.pipe(v.string(), v.minLength(1)),
      "The tenant whose keys are returned. The `jwks_url` of `GET /v1/webhook_keys` contains it.",
      { examples: ["acme"] },
    ),
    shard: field(
      v.optional(v.pipe(v.string(), v.regex(/^\d{1,2}$/)), "0"),
      "The number of the tenant's shard, which the `jwks_url` contains if it is not 0.",
      { examples: ["1"] },
    ),
  },
};

export function webhookKeyRoutes(): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/v1/webhook_keys",
        operationId: "listWebhookKeys",
        tag: "Webhooks",
        summary: "List the keys that sign the tenant's webhooks",
        description: "Webhooks are signed with every key that has not expired.",
        access: { scope: "jobs:read" },
        replies: {
          200: { description: "The keys that sign now, the newest first.", schema: WebhookKeyList },
        },
      },
      async (c, { json }) => {
        const { tenant } = c.var.principal;
        const { shard, signingKeys } = c.var.stores;
        const keys = await signingKeys.liveKeys(tenant);
        const url = new URL("/.well-known/jwks.json", c.var.publicUrl);
        url.searchParams.set("tenant", tenant);
        if (shard > 0) url.searchParams.set("shard", String(shard));
        const jwks_url = url.href;
        return json(200, { object: "list", data: keys.map(toWebhookKey), jwks_url });
      },
    ),
    route(
      {
        method: "POST",
        path: "/v1/webhook_keys/rotate",
        operationId: "rotateWebhookKey",
        tag: "Webhooks",
        summary: "Sign webhooks with a new key",
        description: "The key before it also signs until the overlap ends.",
        access: { scope: "admin" },
        body: jsonBody(WebhookKeyRotationRequest, { overlap_seconds: 3600 }),
        replies: {
          201: { description: "The key, which no later reply shows.", schema: NewWebhookKey },
        },
      },
      async (c, { body: { overlap_seconds }, json }) => {
        const { tenant } = c.var.principal;
        const overlapMs = (overlap_seconds ?? OVERLAP_SECONDS) * 1000;
        const key = await c.var.stores.signingKeys.rotate(tenant, overlapMs);
        // No other reply contains a secret.
        c.header("Cache-Control", "no-store");
        return json(201, { ...toWebhookKey({ ...key, untilMs: null }), secret: key.secret });
      },
    ),
    // Each tenant has a key set. If all shared one, a tenant could have messages signed that another tenant's receiver accepts.
    route(
      {
        method: "GET",
        path: "/.well-known/jwks.json",
        operationId: "getJwks",
        tag: "Webhooks",
        summary: "Get a tenant's public keys as a JSON Web Key Set",
        description:
          "Receivers check the signatures of webhooks with these keys. For a tenant that does not exist the reply has a key that signs nothing.",
        access: "public",
        uses: [TENANT],
        replies: {
          200: {
            description: "The keys.",
            mediaType: "application/jwk-set+json",
            schema: JsonWebKeySet,
          },
        },
        errors: ["queue_unavailable"],
      },
      async (c, { json }) => {
        const tenant = c.req.query("tenant");
        if (!tenant) {
          const message = "tenant is required: the jwks_url of GET /v1/webhook_keys has it";
          throw new AppError("invalid_request", message, { param: "tenant" });
        }
        const keys = await shardStores(c).signingKeys.publicKeys(tenant);
        c.header("Cache-Control", `public, max-age=${JWKS_CACHE_SECONDS}`);
        return json(200, { keys: keys.map(publicJwk) });
      },
    ),
  ];
}

/** The stores of the shard that the URL names. Others are not asked: their state would tell which tenants exist. */
function shardStores(c: AppContext) {
  const shard = c.req.query("shard") ?? "0";
  const stores = /^\d{1,2}$/.test(shard) ? c.var.shards.of(Number(shard)) : null;
  if (stores !== null) return stores;
  const message = "There is no such shard: the jwks_url of GET /v1/webhook_keys has the right one";
  throw new AppError("invalid_request", message, { param: "shard" });
}

function toWebhookKey(key: LiveKey): WebhookKey {
  return {
    id: key.id,
    object: "webhook_key",
    public_key: publicKeyText(key),
    created_at: key.createdAtMs / 1000,
    expires_at: key.untilMs === null ? null : key.untilMs / 1000,
  };
}
