import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Validator } from "@seriousme/openapi-schema-validator";
import { expect, test } from "vitest";
import { createApp } from "../../edge/app.ts";
import { openapiDocument } from "../../infra/openapi/document.ts";
import { OPERATIONS } from "../../infra/openapi/operations.ts";

const FILE = join(import.meta.dirname, "../../edge/openapi.json");

test("the document that is served is what the contract says now: else run npm run openapi", async () => {
  expect(JSON.parse(await readFile(FILE, "utf8"))).toEqual(openapiDocument());
});

test("it is valid OpenAPI 3.1", async () => {
  const validator = new Validator();
  const { valid, errors } = await validator.validate(FILE);
  expect(errors).toBeUndefined();
  expect([valid, validator.version]).toEqual([true, "3.1"]);
});

test("it has every route of the edge, and no other", () => {
  const app = createApp({
    openBackend: () => {
      throw new Error("No request is made here");
    },
    deadlineSeconds: 1,
    webhookAllow: [],
    log: () => {},
  });
  const routes = app.routes
    // Middleware is for all methods.
    .filter(({ method }) => method !== "ALL")
    .map(({ method, path }) => `${method} ${path.replaceAll(/:(\w+)(\{[^}]*\})?/g, "{$1}")}`);
  expect(Object.keys(OPERATIONS).sort()).toEqual([...new Set(routes)].sort());
});
