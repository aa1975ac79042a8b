/**
 * A tenant's API keys, for keys with the scope `admin`: create, list, revoke, rotate. None of them leads beyond what the
 * key that asks may do itself.
 */
import { Hono } from "hono";
import { AppError } from "../../shared/errors.ts";
import type { ApiKeyRecord } from "../../shared/job.ts";
import { LIMITS } from "../../shared/limits.ts";
import {
  beyond,
  KeyRequest,
  RotateRequest,
  type ApiKey,
  type Policy,
} from "../../shared/policy.ts";
import { readJson } from "../body.ts";
import type { AppContext, AppEnv } from "../context.ts";
import { parseRequest } from "../../shared/validate.ts";

export function keyRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.post("/", async (c) => {
    const { name, ...policy } = parseRequest(KeyRequest, await readJson(c.req.raw));
    const { backend, principal } = c.var;
    requireWithin(policy, principal);
    const { key, record } = await backend.keys(async (keys) => {
      if ((await keys.count(principal.tenant)) >= LIMITS.keysPerTenantMax) {
        const message = `A tenant has at most ${LIMITS.keysPerTenantMax} keys; revoke one`;
        throw new AppError("invalid_request", message);
      }
      const { id, key } = await keys.create(name, principal.tenant, policy);
      return { key, record: await keys.read(id) };
    });
    if (record === null) throw noSuchKey();
    c.header("Cache-Control", "no-store");
    return c.json({ ...toApiKey(record), key }, 201);
  });

  routes.get("/", async (c) => {
    const { backend, principal } = c.var;
    const records = await backend.keys((keys) => keys.list(principal.tenant));
    return c.json({ object: "list", data: records.map(toApiKey) });
  });

  routes.delete("/:id", async (c) => {
    const { id } = await requireKey(c, c.req.param("id"));
    await c.var.backend.keys((keys) => keys.revoke(id));
    return c.json({ id, object: "api_key", deleted: true });
  });

  routes.post("/:id/rotate", async (c) => {
    const { overlap } = parseRequest(RotateRequest, await readJson(c.req.raw));
    const record = await requireKey(c, c.req.param("id"));
    requireWithin(record, c.var.principal);
    const key = await c.var.backend.keys((keys) => keys.rotate(record.id, overlap));
    if (key === null) throw noSuchKey();
    c.header("Cache-Control", "no-store");
    return c.json({ ...toApiKey(record), key });
  });

  return routes;
}

/** @throws AppError permission_denied */
function requireWithin(policy: Policy, principal: ApiKeyRecord): void {
  const param = beyond(policy, principal);
  if (param === null) return;
  const message = `${param} goes beyond what the API key of this request may do itself`;
  throw new AppError("permission_denied", message, { param });
}

/** The tenant's key; whether a foreign one exists must not show. @throws AppError not_found */
async function requireKey(c: AppContext, id: string): Promise<ApiKeyRecord> {
  const record = await c.var.backend.keys((keys) => keys.read(id));
  if (record === null || record.tenant !== c.var.principal.tenant) throw noSuchKey();
  return record;
}

function noSuchKey(): AppError {
  return new AppError("not_found", "There is no such API key");
}

function toApiKey({ id, name, createdAtMs, scopes, limits }: ApiKeyRecord): ApiKey {
  return { id, object: "api_key", name, created_at: createdAtMs / 1000, scopes, limits };
}
