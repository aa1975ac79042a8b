/** The Worker's entry: real parts, wired once per isolate; each request opens a backend of its own. */
import type { Hono } from "hono";
import { AppError } from "../shared/errors.ts";
import { createApp } from "./app.ts";
import { RedisBackend } from "./backend-redis.ts";
import type { AppEnv } from "./context.ts";
import { otlpOf, parseEnv } from "./env.ts";
import { log } from "./log.ts";

export { Followers } from "./fan-out.ts";

/** Beside the variables of env.ts. */
interface Bindings {
  readonly FOLLOWERS: DurableObjectNamespace;
}

let app: Hono<AppEnv> | undefined;

function wire(bindings: Bindings): Hono<AppEnv> {
  const env = parseEnv(bindings);
  return createApp({
    openBackend: () => new RedisBackend(env, bindings.FOLLOWERS),
    deadlineSeconds: env.JOB_DEADLINE_SECONDS,
    webhookAllow: env.WEBHOOK_ALLOW,
    otlp: otlpOf(env),
    log,
  });
}

export default {
  fetch(request, bindings, context) {
    try {
      app ??= wire(bindings);
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
