/**
 * The edge as a Hono app. What it depends on (stores, log, settings) is passed in. Middleware that is registered earlier
 * sees the replies of everything that is registered later.
 */
import { Hono, type MiddlewareHandler } from "hono";
import { cors } from "hono/cors";
import { methodNotAllowed } from "hono/method-not-allowed";
import { requestId } from "hono/request-id";
import { matchedRoutes } from "hono/route";
import { newId } from "../shared/ids.ts";
import type { AddressRanges } from "../shared/webhooks/url.ts";
import type { RequestStores } from "./redis/stores.ts";
import type { CompileElsewhere } from "./http/compile-elsewhere.ts";
import type { AppEnv } from "./http/context.ts";
import type { Log } from "./runtime/log.ts";
import { authenticate } from "./middleware/auth.ts";
import { authorize } from "./middleware/authorize.ts";
import { chargeRefusals } from "./middleware/refusals.ts";
import { withStores } from "./middleware/stores.ts";
import * as errors from "./middleware/errors.ts";
import document from "./docs/openapi.json" with { type: "json" };
import {
  COMMON_HEADERS,
  ERROR_HEADERS,
  RETRY_HEADERS,
  UNAUTHORIZED_HEADERS,
} from "./http/reply-headers.ts";
import { honoPath, type Route } from "./http/route.ts";
import { allRoutes } from "./routes/index.ts";
import { NO_PAGE_FILES, type PageFiles } from "./routes/settings.ts";
import type { Otlp } from "./runtime/env.ts";

export interface AppDeps {
  /** Opens the stores of one request on a shard. */
  readonly openStores: (shard: number) => RequestStores;
  /** Count of shards. Default: 1. */
  readonly shardCount?: number;
  /** Seconds from submission to expiry if a request sets no deadline. */
  readonly deadlineSeconds: number;
  /** Addresses that webhooks may be sent to although they are not public. */
  readonly webhookAllow: AddressRanges;
  /** Where clients reach the API; absent: at the Host that they name. */
  readonly publicUrl?: string | undefined;
  /** Where spans are sent; absent if none are sent. */
  readonly otlp?: Otlp | undefined;
  /** Compiles response formats on another thread. Default: on that of the requests, in parts. */
  readonly compileElsewhere?: CompileElsewhere;
  readonly log: Log;
  /** Default: none, as in tests. */
  readonly pages?: PageFiles;
  /** Whether the server is about to end: then it is not ready, and a disconnect is no client's decision. Default: never. */
  readonly isStopping?: () => boolean;
  /** Called with the path of the route that a request has reached, as the API document has it. Default: not called. */
  readonly onRoute?: (request: Request, path: string) => void;
}

const REQUEST_ID_CHARS_MAX = 128;

/** Headers of replies that a script in a browser may read, besides those that it always may: all that a route declares. */
function exposedHeaders(routes: readonly Route[]): string[] {
  const declared = routes.flatMap(({ uses = [], replies }) => [
    ...uses.flatMap(({ replyHeaders = {} }) => Object.keys(replyHeaders)),
    ...Object.values(replies).flatMap(({ headers = {} }) => Object.keys(headers)),
  ]);
  return [...new Set([...EVERY_ROUTE_HEADERS, ...declared])];
}

/** Headers of errors, and of every reply. */
const EVERY_ROUTE_HEADERS = [
  ...[COMMON_HEADERS, ERROR_HEADERS, RETRY_HEADERS, UNAUTHORIZED_HEADERS].flatMap(Object.keys),
  "Allow",
  "ETag",
];

/** The app with all middleware and routes. `app.fetch` serves a request; the caller gives it stores and variables (AppDeps). */
export function createApp({
  openStores,
  shardCount = 1,
  deadlineSeconds,
  webhookAllow,
  publicUrl,
  otlp,
  compileElsewhere,
  log,
  pages = NO_PAGE_FILES,
  isStopping = () => false,
  onRoute,
}: AppDeps): Hono<AppEnv> {
  // Without `strict`, a slash at the end of a path is the same as none: some clients add one to their base URL.
  const app = new Hono<AppEnv>({ strict: false });
  const routes = allRoutes({ deadlineSeconds, document, pages, log });

  if (onRoute) {
    const paths = new Map(routes.map((route) => [honoPath(route), route.path]));
    app.use((c, next) => {
      // Of `/v1/jobs/quote` and `/v1/jobs/{id}`, the one that was registered first answers.
      const path = matchedRoutes(c)
        .map(({ path }) => paths.get(path))
        .find(Boolean);
      if (path !== undefined) onRoute(c.req.raw, path);
      return next();
    });
  }
  app.use(requestId({ limitLength: REQUEST_ID_CHARS_MAX, generator: () => newId("req") }));
  app.use(allowAnyOrigin(exposedHeaders(routes)));
  app.use(withStores(openStores, shardCount));
  app.use((c, next) => {
    c.set("webhookAllow", webhookAllow);
    c.set("isStopping", isStopping);
    c.set("publicUrl", publicUrl ?? c.req.url);
    if (otlp) c.set("otlp", otlp);
    if (compileElsewhere) c.set("compileElsewhere", compileElsewhere);
    return next();
  });
  // Not `.`: that leaves out paths with a line end (`%0A`).
  app.use("/v1/:path{[^]+}", authenticate);
  for (const route of routes.filter(needsKey)) app.use(honoPath(route), authenticate);
  app.use(methodNotAllowed({ app, onMethodNotAllowed: errors.methodNotAllowed }));

  const charges = chargeRefusals();
  for (const route of routes) {
    const { method, access, middleware = [], handle } = route;
    const charge = checksRequests(route) ? [charges] : [];
    app.on(method, honoPath(route), authorize(access), ...charge, ...middleware, handle);
  }

  app.notFound(errors.notFound);
  app.onError(errors.handleError(log));
  return app;
}

/**
 * Any origin is allowed: browsers add cookies to requests automatically, but never an API key. Hono's middleware is used only for
 * preflight requests. To other requests it adds headers through a first reply, which is merged with the route's: a tenth of a
 * submission's time.
 */
function allowAnyOrigin(exposeHeaders: string[]): MiddlewareHandler<AppEnv> {
  const preflight = cors({
    origin: "*",
    allowMethods: ["GET", "POST", "PATCH", "DELETE"],
    exposeHeaders,
    maxAge: 86_400,
  });
  const exposed = exposeHeaders.join(",");
  return function allowAnyOrigin(c, next) {
    if (c.req.method === "OPTIONS") return preflight(c, next);
    c.header("Access-Control-Allow-Origin", "*");
    c.header("Access-Control-Expose-Headers", exposed);
    return next();
  };
}

/** Whether a route outside /v1 needs an API key. */
const needsKey = ({ access, path }: Route) => access !== "public" && !path.startsWith("/v1/");

/** Whether a route checks requests for generations: what these ask for decides what the check costs. */
function checksRequests({ method, access, body }: Route): boolean {
  const isJson = body?.mediaType === "application/json";
  const submits = typeof access === "object" && access.scope === "jobs:write";
  return method === "POST" && submits && isJson;
}
