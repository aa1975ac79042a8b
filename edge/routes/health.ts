/** Health checks for load balancers, without an API key. */
import * as v from "valibot";
import { AppError } from "../../shared/api/errors.ts";
import { field } from "../../shared/api/schema.ts";
import { route, type Route } from "../http/route.ts";
import { requireUsableShard } from "../requests/all-shards.ts";
import type { RouteSettings } from "./settings.ts";

const Health = v.strictObject({ status: field(v.literal("ok"), "Always `ok`.") });

const Version = v.strictObject({
  version: field(v.string(), "The release.", { examples: ["0.1.0"] }),
});

const Service = v.strictObject({
  object: field(v.literal("service"), "The type of this object: `service`."),
  name: field(v.literal("trimtab"), "Always `trimtab`."),
  version: Version.entries.version,
  documentation: field(v.literal("/docs"), "The path of the API reference."),
});

/** `/healthz` is the name that Kubernetes uses, `/health` that of most model servers. */
const HEALTH_PATHS = [
  { path: "/healthz", operationId: "getHealth" },
  { path: "/health", operationId: "getHealthByOtherName" },
] as const;
const ROOT_PATHS = [
  { path: "/", operationId: "getService" },
  { path: "/v1", operationId: "getServiceOfVersion" },
] as const;

export function healthRoutes({ document, log }: Pick<RouteSettings, "document" | "log">): Route[] {
  /** Anybody may request `/readyz`: each refusal is logged once. */
  const logged = new Set<string>();
  const { version } = (document["info"] ?? { version: "" }) as { readonly version: string };
  return [
    ...HEALTH_PATHS.map((names) =>
      route(
        {
          method: "GET",
          ...names,
          tag: "Service",
          summary: "Check that the edge is alive",
          description: "The check does not include Redis.",
          access: "public",
          replies: { 200: { description: "The edge is alive.", schema: Health } },
        },
        (_, { json }) => json(200, { status: "ok" }),
      ),
    ),
    ...ROOT_PATHS.map((names) =>
      route(
        {
          method: "GET",
          ...names,
          tag: "Service",
          summary: "See which service this is",
          description: "Clients request it to check their base URL.",
          access: "public",
          replies: { 200: { description: "The service.", schema: Service } },
        },
        (_, { json }) =>
          json(200, { object: "service", name: "trimtab", version, documentation: "/docs" }),
      ),
    ),
    route(
      {
        method: "GET",
        path: "/version",
        operationId: "getVersion",
        tag: "Service",
        summary: "Read the version",
        description: "The version of the release, as vLLM's server has it.",
        access: "public",
        replies: { 200: { description: "The version.", schema: Version } },
      },
      (_, { json }) => json(200, { version }),
    ),
    route(
      {
        method: "GET",
        path: "/readyz",
        operationId: "getReadiness",
        tag: "Service",
        summary: "Check that the edge can serve requests",
        description:
          "The edge is ready if Redis answers it and takes writes, and the edge is not about to stop.",
        access: "public",
        replies: { 200: { description: "Redis answers and takes writes.", schema: Health } },
        errors: ["queue_unavailable"],
      },
      async (c, { json }) => {
        if (c.var.isStopping()) throw new AppError("queue_unavailable", "The edge is stopping");
        await requireUsableShard(c.var.shards, (problem) => {
          if (logged.has(problem)) return;
          logged.add(problem);
          log({ event: problem });
        });
        return json(200, { status: "ok" });
      },
    ),
  ];
}
