/**
 * Refused requests count against the rate limits of their API key and of the keys that it is within. When they have used one up,
 * further requests are refused before their body is read. This is remembered in the process, so it costs no command to Redis.
 */
import type { MiddlewareHandler } from "hono";
import { keyLimit } from "../../shared/jobs/admission.ts";
import { AppError } from "../../shared/api/errors.ts";
import type { AppContext, AppEnv } from "../http/context.ts";
import { limitError } from "../requests/rate-limits.ts";

/** API keys that are remembered. More could be spent only by as many keys at once. */
const BLOCKED_KEYS_MAX = 10_000;

/** Middleware of the routes that check a request's body for its costs: it runs before the body is read. */
export function chargeRefusals(): MiddlewareHandler<AppEnv> {
  /** Until when each API key may send no request, in Unix milliseconds. */
  const blocked = new Map<string, number>();
  return async function chargeRefusals(c, next) {
    const { id, limits, within } = c.var.principal;
    const pools = [{ id, limits }, ...within].filter(
      (pool) => keyLimit(pool.limits, "requests") !== null,
    );
    if (pools.length === 0) return next();
    for (const pool of pools) {
      const waitMs = (blocked.get(pool.id) ?? 0) - Date.now();
      if (waitMs > 0) throw limitError(c, { limit: "requests", pool, waitMs });
      blocked.delete(pool.id);
    }
    await next();
    if (!isRefusal(c)) return;
    const waits = await c.var.stores.chargeRefusal(pools);
    for (const [i, untilNextMs] of waits.entries()) {
      if (untilNextMs === 0) continue;
      if (blocked.size >= BLOCKED_KEYS_MAX) blocked.clear();
      blocked.set(pools[i]!.id, Date.now() + untilNextMs);
    }
  };
}

/** Whether the request was refused for what it asks. A request above a limit is refused before it costs anything. */
function isRefusal({ error }: AppContext): boolean {
  if (!(error instanceof AppError) || error.code === "rate_limit_exceeded") return false;
  return error.status >= 400 && error.status < 500;
}
