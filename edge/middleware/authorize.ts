/** Authorization: whether the API key or the ticket of a request may call a route, as the route's declaration says. */
import type { MiddlewareHandler } from "hono";
import { AppError } from "../../shared/api/errors.ts";
import type { Scope } from "../../shared/api/keys.ts";
import type { AppContext, AppEnv } from "../http/context.ts";
import type { Access } from "../http/route.ts";

/** Middleware of one route. @throws AppError permission_denied, invalid_api_key */
export function authorize(access: Access): MiddlewareHandler<AppEnv> {
  return async function authorize(c, next) {
    if (access !== "public") {
      // A route is never open because its path was not authenticated.
      if (!isAuthenticated(c)) throw new AppError("invalid_api_key", "Expected an API key");
      if (access === "any_key") requireKey(c);
      else requireAccess(c, access);
    }
    await next();
  };
}

const isAuthenticated = (c: AppContext) =>
  (c.var as Partial<AppContext["var"]>).principal !== undefined;

/** Whether the request may see a job's text: a key that only submits and a ticket that cancels may not. */
export function mayRead(c: AppContext): boolean {
  return c.var.ticket === undefined && c.var.principal.scopes.includes("jobs:read");
}

/** @throws AppError permission_denied */
export function requireScope(c: AppContext, scope: Scope): void {
  if (c.var.principal.scopes.includes(scope)) return;
  throw new AppError("permission_denied", `This API key does not have the scope ${scope}`);
}

/** @throws AppError permission_denied for a ticket */
function requireKey(c: AppContext): void {
  if (!c.var.ticket) return;
  throw new AppError("permission_denied", "This ticket is for another action");
}

/** A ticket opens one route for one job, and no other. What the request follows ends when its key does not allow it any more. */
function requireAccess(c: AppContext, { scope, ticket: action }: Exclude<Access, string>): void {
  const { ticket } = c.var;
  if (!ticket) requireScope(c, scope);
  else if (ticket.action !== action || ticket.jobId !== c.req.param("id")) {
    throw new AppError("permission_denied", "This ticket is for another job or another action");
  }
  const { principal, secretHash, stores } = c.var;
  stores.actFor({ keyId: principal.id, secretHash, scope });
}
