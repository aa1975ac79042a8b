import { expect, test } from "vitest";
import document from "../../edge/openapi.json" with { type: "json" };
import { send } from "./harness.ts";

test("the document is served without a key", async () => {
  const reply = await send("/openapi.json");
  expect([reply.status, reply.headers.get("content-type")]).toEqual([200, "application/json"]);
  expect(await reply.json()).toEqual(document);
});

test("the page tells of every call and schema, and loads nothing", async () => {
  const reply = await send("/docs");
  expect(reply.headers.get("content-type")).toMatch("text/html");
  const page = await reply.text();
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const method of Object.keys(methods)) {
      expect(page).toContain(`<code>${method.toUpperCase()} ${path}</code>`);
    }
  }
  const anchors = new Set(Array.from(page.matchAll(/id="(\w+)"/g), ([, id]) => id));
  expect(anchors).toEqual(new Set([...anchors, ...Object.keys(document.components.schemas)]));
  const links = Array.from(page.matchAll(/(?:href|src)="([^"]*)"/g), ([, to]) => to!);
  expect(links.filter((to) => !anchors.has(to.slice(1)))).toEqual(["openapi.json"]);
});
