/** Opens a backend for the request, and closes it when the reply, a streamed one included, has ended. */
import type { MiddlewareHandler } from "hono";
import type { Backend } from "../backend.ts";
import type { AppEnv } from "../context.ts";

export function withBackend(openBackend: () => Backend): MiddlewareHandler<AppEnv> {
  return async function withBackend(c, next) {
    const backend = openBackend();
    c.set("backend", backend);
    try {
      await next();
    } finally {
      const close = async () => {
        await c.var.streamEnd;
        await c.var.lastWill;
        backend.close();
      };
      if (c.var.streamEnd === undefined) await close();
      else void close();
    }
  };
}
