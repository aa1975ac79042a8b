/** Opens the request's stores, and closes them when the reply, a streamed one included, has ended. */
import type { MiddlewareHandler } from "hono";
import { RequestShards } from "../redis/request-shards.ts";
import type { RequestStores } from "../redis/stores.ts";
import type { AppEnv } from "../http/context.ts";

/** @param openStores opens those of a shard */
export function withStores(
  openStores: (shard: number) => RequestStores,
  shardCount: number,
): MiddlewareHandler<AppEnv> {
  return async function withStores(c, next) {
    const shards = new RequestShards(openStores, shardCount);
    c.set("shards", shards);
    // Until the API key of the request is known (auth.ts).
    c.set("stores", shards.of(0)!);
    try {
      await next();
    } finally {
      const close = async () => {
        await c.var.streamEnd;
        await c.var.disconnectWork;
        shards.close();
      };
      if (c.var.streamEnd === undefined) await close();
      else void close();
    }
  };
}
