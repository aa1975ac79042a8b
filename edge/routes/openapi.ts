/** The API as an OpenAPI document, and as a page to read, both without an API key. */
import * as v from "valibot";
import { CONTENT_SECURITY_POLICY, referencePage } from "../docs/page.ts";
import { route, type Route } from "../http/route.ts";
import type { RouteSettings } from "./settings.ts";

const CACHE = "public, max-age=300";

const OpenApiDocument = v.pipe(v.looseObject({}), v.description("An OpenAPI 3.1 document."));

export function documentRoutes({ document, pages }: RouteSettings): Route[] {
  return [
    route(
      {
        method: "GET",
        path: "/openapi.json",
        operationId: "getOpenApiDocument",
        tag: "Service",
        summary: "Get the API as an OpenAPI document",
        description:
          "The reply is JSON for programs: generators of clients, validators and editors read it.",
        access: "public",
        replies: { 200: { description: "The document.", schema: OpenApiDocument } },
      },
      (c, { json }) => {
        c.header("Cache-Control", CACHE);
        return json(200, document);
      },
    ),
    route(
      {
        method: "GET",
        path: "/docs",
        operationId: "getDocumentation",
        tag: "Service",
        summary: "Read the API reference in a browser",
        description: "The reply is a page that renders the OpenAPI document.",
        access: "public",
        replies: { 200: { description: "The page.", schema: v.string(), mediaType: "text/html" } },
      },
      (c) => {
        c.header("Cache-Control", CACHE);
        c.header("Content-Security-Policy", CONTENT_SECURITY_POLICY);
        return c.html(referencePage());
      },
    ),
    route(
      {
        method: "GET",
        path: "/docs/reference.js",
        operationId: "getDocumentationScript",
        tag: "Service",
        summary: "Get the script of the API reference",
        description: "The page of the API reference loads this script.",
        access: "public",
        replies: {
          200: { description: "The script.", schema: v.string(), mediaType: "text/javascript" },
        },
      },
      (c) => {
        c.header("Cache-Control", CACHE);
        c.header("Content-Type", "text/javascript; charset=utf-8");
        return c.body(pages.referenceScript);
      },
    ),
  ];
}
