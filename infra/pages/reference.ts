/**
 * The script of the API reference: Scalar, and edge/docs/start.js that starts it. Scalar is taken out of its Fastify plugin, which contains it (30 MB of packages): the package that publishes it as a file
 * brings 450 MB of others.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import scalarPlugin from "@scalar/fastify-api-reference";

const DOCS = join(import.meta.dirname, "../../edge/docs");

/** The used part of the plugin's type: it registers routes with a host that looks like Fastify. */
type Plugin = (host: PluginHost, options: object, done: () => void) => void;

interface PluginHost {
  readonly route: (route: PluginRoute) => void;
  readonly log: Console;
  readonly initialConfig: object;
}

interface PluginRoute {
  readonly url: string;
  readonly handler: (request: object, reply: object) => string;
}

export function referenceScript(): string {
  return `${scalarScript()}\n${readFileSync(join(DOCS, "start.js"), "utf8")}`;
}

/** Collects the plugin's routes and asks the script's route for its reply. */
function scalarScript(): string {
  const routes: PluginRoute[] = [];
  const host = {
    route: (route: PluginRoute) => routes.push(route),
    log: console,
    initialConfig: {},
  };
  (scalarPlugin as unknown as Plugin)(host, { configuration: { url: "/openapi.json" } }, () => {});
  const route = routes.find(({ url }) => url.endsWith(".js"));
  if (route === undefined) throw new Error("Scalar's Fastify plugin registers no script");
  const reply = { header: () => reply, send: (body: string) => body };
  return route.handler({}, reply);
}
