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
      const { streamEnd } = c.var;
      if (streamEnd === undefined) backend.close();
      else void streamEnd.finally(() => backend.close());
    }
  };
}
