/** Which scope a request needs: one rule for every path, so that a new route is not open by oversight. */
import { createMiddleware } from "hono/factory";
import { AppError } from "../../shared/errors.ts";
import type { Scope } from "../../shared/policy.ts";
import type { AppEnv } from "../context.ts";

/** @throws AppError permission_denied */
export const authorize = createMiddleware<AppEnv>(async (c, next) => {
  const scope = scopeOf(c.req.method, c.req.path);
  if (!c.var.principal.scopes.includes(scope)) {
    throw new AppError("permission_denied", `This API key does not have the scope ${scope}`);
  }
  await next();
});

/** What lets others in: keys; endpoints, which are sent what every key's jobs say; and what their receivers trust. */
const ADMIN = /^\/v1\/keys(\/|$)/;
const ADMIN_WRITES = /^\/v1\/(webhook_endpoints|webhook_keys)(\/|$)/;

function scopeOf(method: string, path: string): Scope {
  const reads = method === "GET" || method === "HEAD";
  if (ADMIN.test(path) || (!reads && ADMIN_WRITES.test(path))) return "admin";
  return reads ? "jobs:read" : "jobs:write";
}
