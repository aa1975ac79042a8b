/** Opens the request's stores, and closes them when the reply, a streamed one included, has ended. */
import type { MiddlewareHandler } from "hono";
import type { RequestStores } from "../redis/stores.ts";
import type { AppEnv } from "../http/context.ts";

export function withStores(openStores: () => RequestStores): MiddlewareHandler<AppEnv> {
  return async function withStores(c, next) {
    const stores = openStores();
    c.set("stores", stores);
    try {
      await next();
    } finally {
      const close = async () => {
        await c.var.streamEnd;
        await c.var.disconnectWork;
        stores.close();
      };
      if (c.var.streamEnd === undefined) await close();
      else void close();
    }
  };
}
