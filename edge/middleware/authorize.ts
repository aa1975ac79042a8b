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

function scopeOf(method: string, path: string): Scope {
  if (/^\/v1\/keys(\/|$)/.test(path)) return "admin";
  return method === "GET" || method === "HEAD" ? "jobs:read" : "jobs:write";
}
