import { expect, test } from "vitest";
import document from "../../../edge/docs/openapi.json" with { type: "json" };
import { send } from "../harness.ts";

test("the document is served without a key", async () => {
  const reply = await send("/openapi.json");
  expect([reply.status, reply.headers.get("content-type")]).toEqual([200, "application/json"]);
  expect(await reply.json()).toEqual(document);
});

test("the page loads only scripts of its own host, and its policy forbids inline scripts and scripts of other hosts", async () => {
  const reply = await send("/docs");
  expect(reply.headers.get("content-type")).toMatch("text/html");
  expect(reply.headers.get("content-security-policy")).toMatch("script-src 'self';");
  const page = await reply.text();
  const links = Array.from(page.matchAll(/(?:href|src)="([^"]*)"/g), ([, to]) => to!);
  expect(links).toEqual(["data:,", "/openapi.json", "/docs/reference.js"]);
});
