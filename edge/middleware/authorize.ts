/** Which scope a request needs: one rule for every path, so that a new route is not open by oversight. */
import { createMiddleware } from "hono/factory";
import { AppError } from "../../shared/errors.ts";
import type { Scope } from "../../shared/policy.ts";
import type { TicketRecord } from "../../shared/ticket.ts";
import type { AppContext, AppEnv } from "../context.ts";

/** @throws AppError permission_denied */
export const authorize = createMiddleware<AppEnv>(async (c, next) => {
  const { method, path } = c.req;
  if (!c.var.ticket) requireScope(c, scopeOf(method, path));
  else if (!opens(c.var.ticket, method, path)) {
    throw new AppError("permission_denied", "This ticket is for another use");
  }
  await next();
});

/** What lets others in: keys; endpoints, which are sent what every key's jobs say; and what their receivers trust. */
const ADMIN = /^\/v1\/keys(\/|$)/;
const ADMIN_WRITES = /^\/v1\/(webhook_endpoints|webhook_keys)(\/|$)/;
/** A ticket needs the scope of what it lets do; reading is the least. */
const TICKETS = /^\/v1\/jobs\/[^/]+\/tickets$/;

/** @throws AppError permission_denied */
export function requireScope(c: AppContext, scope: Scope): void {
  if (c.var.principal.scopes.includes(scope)) return;
  throw new AppError("permission_denied", `This API key does not have the scope ${scope}`);
}

function scopeOf(method: string, path: string): Scope {
  const reads = isRead(method);
  if (ADMIN.test(path) || (!reads && ADMIN_WRITES.test(path))) return "admin";
  return reads || TICKETS.test(path) ? "jobs:read" : "jobs:write";
}

function opens({ jobId, action }: TicketRecord, method: string, path: string): boolean {
  return action === "stream"
    ? isRead(method) && path === `/v1/jobs/${jobId}/events`
    : method === "POST" && path === `/v1/jobs/${jobId}/cancel`;
}

const isRead = (method: string) => method === "GET" || method === "HEAD";
