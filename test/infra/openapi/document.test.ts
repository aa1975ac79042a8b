/** The OpenAPI document: it is up to date, valid, complete, and every part of it is described. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Validator } from "@seriousme/openapi-schema-validator";
import * as v from "valibot";
import { expect, test } from "vitest";
import { createApp } from "../../../edge/app.ts";
import { honoPath } from "../../../edge/http/route.ts";
import { openapiDocument, ROUTES } from "../../../infra/openapi/document.ts";

const FILE = join(import.meta.dirname, "../../../edge/docs/openapi.json");

type Json = Readonly<Record<string, unknown>>;

const document = JSON.parse(await readFile(FILE, "utf8")) as Json;

/** Every object in the document, with its path. */
function* objects(value: unknown, path: readonly string[] = []): Generator<[string[], Json]> {
  if (typeof value !== "object" || value === null) return;
  yield [[...path], value as Json];
  for (const [key, member] of Object.entries(value)) yield* objects(member, [...path, key]);
}

const METHODS = new Set(["get", "post", "patch", "delete"]);
const EXAMPLES = new Set(["example", "examples", "default"]);
/** The members of `document`, without the examples in it, which are data. */
const PARTS = [...objects(document)].filter(([path]) => !path.some((key) => EXAMPLES.has(key)));
const parent = (path: readonly string[]) => path.at(-2);
const operations = PARTS.filter(([path]) => path.length === 3 && METHODS.has(path[2]!));
/** Members of objects: of requests, replies, events and errors. */
const properties = PARTS.filter(([path]) => parent(path) === "properties");
const parameters = PARTS.filter(([path]) => path[0] === "paths" && parent(path) === "parameters");
const headers = PARTS.filter(([path]) => path.length === 3 && parent(path) === "headers");
const responses = PARTS.filter(([path, part]) => parent(path) === "responses" && !part["$ref"]);

test("the document that the edge serves is up to date: if not, run npm run openapi", () => {
  expect(document).toEqual(JSON.parse(JSON.stringify(openapiDocument())));
});

test("it is valid OpenAPI 3.1", async () => {
  const validator = new Validator();
  const { valid, errors } = await validator.validate(FILE);
  expect(errors).toBeUndefined();
  expect([valid, validator.version]).toEqual([true, "3.1"]);
});

test("it has every route of the edge, and no other", () => {
  const app = createApp({
    openStores: () => {
      throw new Error("No request is made here");
    },
    deadlineSeconds: 1,
    webhookAllow: [],
    log: () => {},
  });
  const registered = app.routes
    // Middleware is registered for all methods.
    .filter(({ method }) => method !== "ALL")
    .map(({ method, path }) => `${method} ${path}`);
  const declared = ROUTES.map((route) => `${route.method} ${honoPath(route)}`);
  expect(declared.sort()).toEqual([...new Set(registered)].sort());
  const documented = operations
    .filter(([[section]]) => section === "paths")
    .map(([path]) => `${path[2]!.toUpperCase()} ${path[1]}`);
  expect(documented.sort()).toEqual(ROUTES.map(({ method, path }) => `${method} ${path}`).sort());
});

test("every operation has a summary, a description and a unique id", () => {
  const missing = operations.filter(([, operation]) =>
    ["summary", "description", "operationId"].some((name) => !operation[name]),
  );
  expect(missing.map(([path]) => path.join(" "))).toEqual([]);
  const ids = operations.map(([, { operationId }]) => operationId as string);
  expect(ids.filter((id) => !/^[a-z]+[A-Za-z]*$/.test(id))).toEqual([]);
  expect(new Set(ids).size).toBe(ids.length);
});

test("every operation, property, parameter, header and response has a description in full sentences", () => {
  const described = [...operations, ...properties, ...parameters, ...headers, ...responses];
  const wrong = described.filter(([, { description }]) => !String(description).endsWith("."));
  expect(wrong.map(([path]) => path.join(" "))).toEqual([]);
  expect(properties.length).toBeGreaterThan(300);
  expect(headers.length).toBeGreaterThan(15);
});

test("every header and every parameter has an example, or values to choose from", () => {
  // The `after` of pages takes ids of different kinds.
  const named = [...headers, ...parameters].filter(([, { name }]) => name !== "after");
  const unclear = named.filter(([, { schema, example, examples }]) => {
    const { enum: values, const: value } = schema as Json;
    return [example, examples, values, value].every((shown) => shown === undefined);
  });
  expect(
    unclear.map(([path, { name }]) => `${path.slice(1, 3).join(" ")} ${String(name)}`),
  ).toEqual([]);
});

test("every time has an example: null, or a time close to those of the other examples", () => {
  const [start, end] = [Date.UTC(2026, 0, 1) / 1000, Date.UTC(2026, 0, 31) / 1000];
  const times = properties.filter(([, { description }]) => /Unix time/.test(String(description)));
  const wrong = times.filter(([, { examples }]) => {
    const [example] = (examples ?? []) as readonly unknown[];
    return example !== null && !(Number(example) >= start && Number(example) <= end);
  });
  expect(wrong.map(([path]) => path.join(" "))).toEqual([]);
  expect(times.length).toBeGreaterThan(30);
});

test("only routes that reply with the outcome of a job list `worker_lost`", () => {
  const lost = operations.filter(([, { responses: replies }]) =>
    JSON.stringify(replies).includes("WorkerLost"),
  );
  expect(lost.map(([, { operationId }]) => String(operationId)).sort()).toEqual([
    "createChatCompletion",
    "createCompletion",
    "createMessage",
    "createResponse",
    "createScore",
    "getChatCompletion",
  ]);
});

test("the example of every body is accepted by its schema", () => {
  const bodies = ROUTES.flatMap(({ operationId, body }) =>
    (body?.schemas ?? []).map((schema, i) => ({
      operationId,
      schema,
      mediaType: body!.mediaType,
      example: body!.examples[i],
    })),
  ).filter(({ mediaType }) => mediaType === "application/json");
  expect(bodies.length).toBeGreaterThan(12);
  const refused = bodies.filter(({ schema, example }) => !v.is(schema, example));
  expect(refused.map(({ operationId }) => operationId)).toEqual([]);
});

test("fields that have a default show it, and most scalar fields of requests an example", () => {
  const schemas = (document["components"] as Json)["schemas"] as Readonly<Record<string, Json>>;
  const names = Object.keys(schemas).filter((name) => /Request$|^Steering$|^Guards$/.test(name));
  const fields = names.flatMap((name) =>
    Object.values((schemas[name]!["properties"] ?? {}) as Readonly<Record<string, Json>>),
  );
  expect(fields.length).toBeGreaterThan(130);
  expect(fields.filter((field) => "default" in field).length).toBeGreaterThan(60);
  expect(fields.filter((field) => "examples" in field).length).toBeGreaterThan(55);
});
