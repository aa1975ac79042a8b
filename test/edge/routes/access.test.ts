/** Authorization follows from the declaration of each route: these tests call every route of the edge. */
import { expect, test } from "vitest";
import { route, type Route } from "../../../edge/http/route.ts";
import { allRoutes } from "../../../edge/routes/index.ts";
import { NO_PAGE_FILES } from "../../../edge/routes/settings.ts";
import { Scope } from "../../../shared/api/keys.ts";
import { errorOf, newTenant, send } from "../harness.ts";

const routes = allRoutes({
  deadlineSeconds: 1,
  document: {},
  pages: NO_PAGE_FILES,
  log: () => {},
});
const name = ({ method, path }: Route) => `${method} ${path}`;

/** The path of a route, with the id of an object that does not exist. */
const pathOf = ({ path }: Route) => path.replace("{id}", "nothing");

const scopeOf = ({ access }: Route) => (typeof access === "string" ? null : access.scope);

test("reads need jobs:read, changes need jobs:write; keys and changes of webhook receivers need admin, all tenants operator", () => {
  const exceptions = routes.flatMap((route) => {
    const usual = route.method === "GET" ? "jobs:read" : "jobs:write";
    const scope = scopeOf(route);
    return scope === null || scope === usual ? [] : [`${name(route)} ${scope}`];
  });
  expect(exceptions).toEqual([
    "POST /v1/jobs/{id}/tickets jobs:read",
    "POST /v1/webhook_endpoints admin",
    "PATCH /v1/webhook_endpoints/{id} admin",
    "DELETE /v1/webhook_endpoints/{id} admin",
    "POST /v1/webhook_endpoints/{id}/test admin",
    "POST /v1/webhook_keys/rotate admin",
    "POST /v1/keys admin",
    "GET /v1/keys admin",
    "DELETE /v1/keys/{id} admin",
    "POST /v1/keys/{id}/rotate admin",
    "GET /v1/activity admin",
    "GET /v1/operator/usage operator",
    "GET /v1/operator/failures operator",
    "GET /v1/operator/queues operator",
    "GET /v1/operator/activity operator",
    "GET /v1/operator/workers operator",
    "POST /v1/operator/workers/{id}/drain operator",
    "GET /v1/operator/models operator",
    "POST /v1/operator/models/{id}/pause operator",
    "POST /v1/operator/models/{id}/resume operator",
    "GET /v1/operator/jobs operator",
    "POST /v1/operator/jobs/{id}/cancel operator",
  ]);
});

test("only health checks, the documentation and public keys need no API key", () => {
  const open = routes.filter(({ access }) => access === "public").map(name);
  expect(open).toEqual([
    "GET /.well-known/jwks.json",
    "GET /healthz",
    "GET /health",
    "GET /",
    "GET /v1",
    "GET /version",
    "GET /readyz",
    "GET /openapi.json",
    "GET /docs",
    "GET /docs/reference.js",
    "GET /play",
    "GET /play/script.js",
    "GET /play/style.css",
    "GET /admin",
    "GET /admin/script.js",
    "GET /admin/style.css",
  ]);
});

test("any key may read its use and its own limits", () => {
  const open = routes.filter(({ access }) => access === "any_key").map(name);
  expect(open).toEqual(["GET /v1/usage", "GET /v1/keys/me"]);
});

test("every other route refuses a request without an API key", async () => {
  const closed = routes.filter(({ access }) => access !== "public");
  for (const route of closed) {
    const reply = await send(pathOf(route), { method: route.method });
    expect([name(route), reply.status]).toEqual([name(route), 401]);
  }
});

test.for(Scope.options)(
  "a key with every scope but %s cannot call the routes that need it",
  async (scope) => {
    const scopes = Scope.options.filter((other) => other !== scope);
    const client = await newTenant({ scopes });
    const needing = routes.filter((route) => scopeOf(route) === scope);
    expect(needing).not.toEqual([]);
    for (const route of needing) {
      const methods = route.method === "GET" ? ["GET", "HEAD"] : [route.method];
      for (const method of methods) {
        const reply = await client.send(pathOf(route), method);
        expect([name(route), method, reply.status]).toEqual([name(route), method, 403]);
        if (method === "HEAD") continue;
        expect((await errorOf(reply)).message).toBe(
          `This API key does not have the scope ${scope}`,
        );
      }
    }
  },
);

const DECLARATION = {
  method: "GET",
  operationId: "getThing",
  tag: "Jobs",
  summary: "Read a thing",
  description: "A route of this test.",
  replies: { 204: { description: "Nothing." } },
} as const;
const handler = () => new Response(null);

test("a route must declare its access, and a scope under /v1", () => {
  // @ts-expect-error: access is missing
  expect(() => route({ ...DECLARATION, path: "/v1/things" }, handler)).toThrow("access");
  const open = { ...DECLARATION, path: "/v1/things", access: "public" } as const;
  expect(() => route(open, handler)).toThrow("scope");
  const wrong = { ...DECLARATION, path: "/v1/things", access: { scope: "things:read" } } as const;
  // @ts-expect-error: there is no such scope
  expect(route(wrong, handler).access).toEqual(wrong.access);
});

test("a route must describe the parameters of its path", () => {
  const declaration = {
    ...DECLARATION,
    path: "/v1/things/{id}",
    access: { scope: "admin" },
  } as const;
  // @ts-expect-error: params is missing
  expect(route(declaration, handler).path).toBe(declaration.path);
});
