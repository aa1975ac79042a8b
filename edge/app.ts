/**
 * The edge as a value: a Request goes in, a Response comes out, and what lies behind is handed in.
 * Read the middleware from the top: what comes earlier sees every reply of what comes later.
 */
import { Hono } from "hono";
import { cors } from "hono/cors";
import { methodNotAllowed } from "hono/method-not-allowed";
import { requestId } from "hono/request-id";
import { newId } from "../shared/api-key.ts";
import type { AddressRanges } from "../shared/webhook-url.ts";
import type { Backend } from "./backend.ts";
import type { AppEnv } from "./context.ts";
import type { Log } from "./log.ts";
import { authenticate } from "./middleware/auth.ts";
import { authorize } from "./middleware/authorize.ts";
import { withBackend } from "./middleware/backend.ts";
import * as errors from "./middleware/errors.ts";
import { batchRoutes } from "./routes/batches.ts";
import { chatRoutes } from "./routes/chat.ts";
import { completionRoutes } from "./routes/completions.ts";
import { fileRoutes } from "./routes/files.ts";
import type { Otlp } from "./trace.ts";
import { healthRoutes } from "./routes/health.ts";
import { jobRoutes } from "./routes/jobs.ts";
import { keyRoutes } from "./routes/keys.ts";
import { modelRoutes } from "./routes/models.ts";
import { openapiRoutes } from "./routes/openapi.ts";
import { scoreRoutes } from "./routes/score.ts";
import { ticketRoutes } from "./routes/tickets.ts";
import { responseRoutes } from "./routes/responses.ts";
import { deliveryRoutes } from "./routes/webhook-deliveries.ts";
import { endpointRoutes } from "./routes/webhook-endpoints.ts";
import { inboxRoutes } from "./routes/webhook-inbox.ts";
import { jwksRoutes, webhookKeyRoutes } from "./routes/webhook-keys.ts";

export interface AppDeps {
  /** Called once for each request. */
  readonly openBackend: () => Backend;
  /** Seconds from submission to expiry when a request names no deadline. */
  readonly deadlineSeconds: number;
  /** Where webhooks may go although it is not public. */
  readonly webhookAllow: AddressRanges;
  /** Where spans go; nowhere by default. */
  readonly otlp?: Otlp | undefined;
  readonly log: Log;
}

const REQUEST_ID_CHARS_MAX = 128;

/** Headers that a browser may read besides the few that it always may. */
const exposeHeaders = [
  "x-request-id",
  "x-trimtab-job-id",
  "ETag",
  "Idempotent-Replayed",
  "Location",
  "Preference-Applied",
  "RateLimit",
  "RateLimit-Policy",
  "Retry-After",
];

export function createApp({
  openBackend,
  deadlineSeconds,
  webhookAllow,
  otlp,
  log,
}: AppDeps): Hono<AppEnv> {
  const app = new Hono<AppEnv>();

  app.use(requestId({ limitLength: REQUEST_ID_CHARS_MAX, generator: () => newId("req") }));
  // Any origin: a key in a header, unlike a cookie, is sent by nobody who was not given it.
  app.use(
    cors({
      origin: "*",
      allowMethods: ["GET", "POST", "PATCH", "DELETE"],
      exposeHeaders,
      maxAge: 86_400,
    }),
  );
  app.use(withBackend(openBackend));
  app.use((c, next) => {
    c.set("webhookAllow", webhookAllow);
    if (otlp) c.set("otlp", otlp);
    return next();
  });
  app.use("/v1/*", authenticate, authorize);
  app.use(methodNotAllowed({ app, onMethodNotAllowed: errors.methodNotAllowed }));

  app.route("/v1/jobs", jobRoutes(deadlineSeconds, log));
  app.route("/v1/jobs", ticketRoutes());
  app.route("/v1/chat/completions", chatRoutes(deadlineSeconds, log));
  app.route("/v1/completions", completionRoutes(deadlineSeconds, log));
  app.route("/v1/score", scoreRoutes(deadlineSeconds));
  app.route("/v1/responses", responseRoutes(deadlineSeconds, log));
  app.route("/v1/files", fileRoutes());
  app.route("/v1/batches", batchRoutes());
  app.route("/v1/models", modelRoutes());
  app.route("/v1/keys", keyRoutes());
  app.route("/v1/webhook_endpoints", endpointRoutes());
  app.route("/v1/webhook_deliveries", deliveryRoutes());
  app.route("/v1/webhook_keys", webhookKeyRoutes());
  app.route("/v1/webhook_inbox", inboxRoutes(log));
  app.route("/.well-known/jwks.json", jwksRoutes());
  app.route("/", healthRoutes());
  app.route("/", openapiRoutes());

  app.notFound(errors.notFound);
  app.onError(errors.handleError(log));
  return app;
}
