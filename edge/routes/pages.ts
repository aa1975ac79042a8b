/** The pages for browsers. They use the public API with the key that their user enters. */
import * as v from "valibot";
import { adminPage } from "../admin/page.ts";
import { CONTENT_SECURITY_POLICY, playgroundPage } from "../play/page.ts";
import { route, type Route } from "../http/route.ts";
import type { RouteSettings } from "./settings.ts";

/** Page, script and style sheet belong together, so none is used from a cache after an upgrade. */
const CACHE = "no-cache";

interface Page {
  readonly path: `/${string}`;
  /** In the names of operations. */
  readonly id: string;
  /** In sentences. */
  readonly name: string;
  readonly summary: string;
  readonly description: string;
  readonly html: () => ReturnType<typeof playgroundPage>;
  readonly script: string;
  readonly style: string;
}

export function pageRoutes({ pages }: RouteSettings): Route[] {
  return [
    ...routesOf({
      path: "/play",
      id: "Playground",
      name: "the playground",
      summary: "Try the steering in a browser",
      description:
        "The reply is a page that shows the base's answer beside the steered one, token by token. It calls this API with the API key that its user enters.",
      html: playgroundPage,
      script: pages.playScript,
      style: pages.playStyle,
    }),
    ...routesOf({
      path: "/admin",
      id: "AdminPage",
      name: "the operator's page",
      summary: "Watch the service in a browser",
      description:
        "The reply is a page that shows queues, workers, jobs, failures, webhooks and keys, and stops what must stop. It calls this API with the API key that its user enters, which has the scope `operator` or `admin`.",
      html: adminPage,
      script: pages.adminScript,
      style: pages.adminStyle,
    }),
  ];
}

function routesOf({ path, id, name, summary, description, html, ...files }: Page): Route[] {
  const page = route(
    {
      method: "GET",
      path,
      operationId: `get${id}`,
      tag: "Service",
      summary,
      description,
      access: "public",
      replies: { 200: { description: "The page.", schema: v.string(), mediaType: "text/html" } },
    },
    (c) => {
      c.header("Cache-Control", CACHE);
      c.header("Content-Security-Policy", CONTENT_SECURITY_POLICY);
      // The address may contain a prompt.
      c.header("Referrer-Policy", "no-referrer");
      return c.html(html());
    },
  );
  const file = (end: string, kind: string, mediaType: string, content: string) =>
    route(
      {
        method: "GET",
        path: `${path}/${end}`,
        operationId: `get${id}${end === "script.js" ? "Script" : "Style"}`,
        tag: "Service",
        summary: `Get the ${kind} of ${name}`,
        description: `The page loads this ${kind}.`,
        access: "public",
        replies: { 200: { description: `The ${kind}.`, schema: v.string(), mediaType } },
      },
      (c) => {
        c.header("Cache-Control", CACHE);
        c.header("Content-Type", `${mediaType}; charset=utf-8`);
        c.header("X-Content-Type-Options", "nosniff");
        return c.body(content);
      },
    );
  return [
    page,
    file("script.js", "script", "text/javascript", files.script),
    file("style.css", "style sheet", "text/css", files.style),
  ];
}
