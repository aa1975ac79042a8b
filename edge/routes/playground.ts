/** The playground: a page that shows the steering token by token. It uses the public API with the key that its user enters. */
import * as v from "valibot";
import { CONTENT_SECURITY_POLICY, playgroundPage } from "../play/page.ts";
import { route, type Route } from "../http/route.ts";
import type { RouteSettings } from "./settings.ts";

/** Page, script and style sheet belong together, so none is used from a cache after an upgrade. */
const CACHE = "no-cache";

export function playgroundRoutes({ pages }: RouteSettings): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/play",
        operationId: "getPlayground",
        tag: "Service",
        summary: "Try the steering in a browser",
        description:
          "The reply is a page that shows the base's answer beside the steered one, token by token. It calls this API with the API key that its user enters.",
        access: "public",
        replies: { 200: { description: "The page.", schema: v.string(), mediaType: "text/html" } },
      },
      (c) => {
        c.header("Cache-Control", CACHE);
        c.header("Content-Security-Policy", CONTENT_SECURITY_POLICY);
        // The address may contain a prompt.
        c.header("Referrer-Policy", "no-referrer");
        return c.html(playgroundPage());
      },
    ),
    fileRoute("/play/script.js", "text/javascript", "script", pages.playScript),
    fileRoute("/play/style.css", "text/css", "style sheet", pages.playStyle),
  ];
}

function fileRoute(path: `/${string}`, mediaType: string, name: string, content: string): Route {
  return route(
    {
      method: "GET",
      path,
      operationId: name === "script" ? "getPlaygroundScript" : "getPlaygroundStyle",
      tag: "Service",
      summary: `Get the ${name} of the playground`,
      description: `The page of the playground loads this ${name}.`,
      access: "public",
      replies: { 200: { description: `The ${name}.`, schema: v.string(), mediaType } },
    },
    (c) => {
      c.header("Cache-Control", CACHE);
      c.header("Content-Type", `${mediaType}; charset=utf-8`);
      c.header("X-Content-Type-Options", "nosniff");
      return c.body(content);
    },
  );
}
