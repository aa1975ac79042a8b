/** For load balancers, without a key: alive says the Worker answers, ready says that Redis does too. */
import { Hono } from "hono";
import type { AppEnv } from "../context.ts";

export function healthRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get("/healthz", (c) => c.json({ status: "ok" }));

  routes.get("/readyz", async (c) => {
    await c.var.backend.ping();
    return c.json({ status: "ok" });
  });

  return routes;
}
