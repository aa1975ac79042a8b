/** The API as an OpenAPI document, and as a page to read; both without a key. */
import { Hono } from "hono";
import type { AppEnv } from "../context.ts";
import document from "../openapi.json" with { type: "json" };
import { referencePage } from "../reference-page.ts";

const CACHE = "public, max-age=300";
/** The page has a style of its own and nothing else. */
const POLICY =
  "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

export function openapiRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();

  routes.get("/openapi.json", (c) => {
    c.header("Cache-Control", CACHE);
    return c.json(document);
  });

  routes.get("/docs", (c) => {
    c.header("Cache-Control", CACHE);
    c.header("Content-Security-Policy", POLICY);
    return c.html(referencePage(document));
  });

  return routes;
}
