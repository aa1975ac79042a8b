/** The keys that sign a tenant's webhooks: the public halves for everybody, rotation for their owner. */
import { Hono } from "hono";
import { AppError } from "../../shared/errors.ts";
import type { LiveKey } from "../../shared/signing-store.ts";
import { publicJwk, publicKeyText } from "../../shared/signing.ts";
import { RotationRequest, type WebhookKey } from "../../shared/webhook-contract.ts";
import { readJson } from "../body.ts";
import type { AppEnv } from "../context.ts";
import { parseRequest } from "../../shared/validate.ts";

const OVERLAP_SECONDS = 24 * 3600;
/** A key signs from the moment at which it is made, and the one before it goes on for longer than this. */
const JWKS_CACHE_SECONDS = 300;

export function webhookKeyRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get("/", async (c) => {
    const { tenant } = c.var.principal;
    const keys = await c.var.backend.webhooks(({ signing }) => signing.live(tenant));
    const { origin } = new URL(c.req.url);
    const jwks_url = `${origin}/.well-known/jwks.json?tenant=${encodeURIComponent(tenant)}`;
    return c.json({ object: "list", data: keys.map(toKey), jwks_url });
  });

  routes.post("/rotate", async (c) => {
    const { tenant } = c.var.principal;
    const { overlap_seconds } = parseRequest(RotationRequest, await readJson(c.req.raw));
    const overlapMs = (overlap_seconds ?? OVERLAP_SECONDS) * 1000;
    const key = await c.var.backend.webhooks(({ signing }) => signing.rotate(tenant, overlapMs));
    // The only reply that holds a secret.
    c.header("Cache-Control", "no-store");
    return c.json({ ...toKey({ ...key, untilMs: null }), secret: key.secret }, 201);
  });

  return routes;
}

/**
 * A key set for each tenant: with one for all, whoever has an API key could have messages signed that another tenant's
 * receiver takes for its own.
 */
export function jwksRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get("/", async (c) => {
    const tenant = c.req.query("tenant");
    if (!tenant) {
      const message = "tenant is required: the jwks_url of GET /v1/webhook_keys has it";
      throw new AppError("invalid_request", message, { param: "tenant" });
    }
    const keys = await c.var.backend.webhooks(({ signing }) => signing.live(tenant));
    c.header("Cache-Control", `public, max-age=${JWKS_CACHE_SECONDS}`);
    c.header("Content-Type", "application/jwk-set+json");
    return c.body(JSON.stringify({ keys: keys.map(publicJwk) }));
  });

  return routes;
}

function toKey(key: LiveKey): WebhookKey {
  return {
    id: key.id,
    object: "webhook_key",
    public_key: publicKeyText(key),
    created_at: key.createdAtMs / 1000,
    expires_at: key.untilMs === null ? null : key.untilMs / 1000,
  };
}
