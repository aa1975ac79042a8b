/** The entry of the edge on Cloudflare (self-hosted: server/main.ts). It builds the app once per isolate. Each request opens its own stores. */
import type { Hono } from "hono";
import { AppError } from "../shared/api/errors.ts";
import adminScript from "./admin/script.txt";
import adminStyle from "./admin/style.txt";
import { createApp } from "./app.ts";
import referenceScript from "./docs/reference.txt";
import playScript from "./play/script.txt";
import playStyle from "./play/style.txt";
import { HubLogs } from "./redis/hub-client.ts";
import { envsOfShards } from "./redis/request-shards.ts";
import { RequestStores } from "./redis/stores.ts";
import type { AppEnv } from "./http/context.ts";
import { otlpOf, parseEnv } from "./runtime/env.ts";
import { log } from "./runtime/log.ts";

export { StreamHub } from "./redis/stream-hub.ts";

/** The bindings besides the variables of env.ts. */
interface Bindings {
  readonly STREAM_HUB: DurableObjectNamespace;
}

let app: Hono<AppEnv> | undefined;

function createFromBindings(bindings: Bindings): Hono<AppEnv> {
  const env = parseEnv(bindings);
  const count = env.STREAM_CONNECTIONS;
  const shards = envsOfShards(env).map((env, shard) => {
    const logs =
      count === 0 ? null : new HubLogs(bindings.STREAM_HUB, count, env.STREAM_LOCATION, shard);
    return { env, logs };
  });
  return createApp({
    openStores: (shard) => {
      const { env, logs } = shards[shard]!;
      return new RequestStores(env, logs, null, shard);
    },
    shardCount: shards.length,
    deadlineSeconds: env.JOB_DEADLINE_SECONDS,
    webhookAllow: env.WEBHOOK_ALLOW,
    publicUrl: env.PUBLIC_URL,
    otlp: otlpOf(env),
    log,
    pages: { referenceScript, playScript, playStyle, adminScript, adminStyle },
  });
}

export default {
  fetch(request, bindings, context) {
    try {
      app ??= createFromBindings(bindings);
    } catch (error) {
      log({ event: "misconfigured", error });
      return Response.json(new AppError("internal", "The server is misconfigured").toProblem(), {
        status: 500,
        headers: { "Content-Type": "application/problem+json" },
      });
    }
    return app.fetch(request, bindings, context);
  },
} satisfies ExportedHandler<Bindings>;
