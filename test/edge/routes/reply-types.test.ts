/** The type checker holds handlers to the replies that their routes declare: this file is checked by `tsc -p test/edge`. */
import * as v from "valibot";
import { expect, test } from "vitest";
import { route } from "../../../edge/http/route.ts";
import { deletionSchema, pageSchema } from "../../../shared/api/lists.ts";

const Ping = v.strictObject({ ping: v.literal("pong"), at: v.nullable(v.number()) });

const declaration = {
  method: "GET",
  path: "/ping",
  operationId: "ping",
  tag: "Service",
  summary: "Ping",
  description: "A route of this test.",
  access: "public",
} as const;
const replies = { 200: { description: "The ping.", schema: Ping } } as const;

test("the body of a JSON reply has exactly the declared members, and the status is a declared one", () => {
  const routes = [
    route({ ...declaration, replies }, (_, { json }) => json(200, { ping: "pong", at: null })),
    // @ts-expect-error: a wrong value
    route({ ...declaration, replies }, (_, { json }) => json(200, { ping: true, at: null })),
    // @ts-expect-error: a member is missing
    route({ ...declaration, replies }, (_, { json }) => json(200, { ping: "pong" })),
    // @ts-expect-error: a member is not declared
    route({ ...declaration, replies }, (_, { json }) => json(200, { ping: "pong", at: 1, to: 2 })),
    // @ts-expect-error: the status is not declared
    route({ ...declaration, replies }, (_, { json }) => json(201, { ping: "pong", at: null })),
  ];
  expect(routes).toHaveLength(5);
});

test("each status has its own body", () => {
  const deletion = { description: "The deletion.", schema: deletionSchema("ping") };
  const page = { description: "The page.", schema: pageSchema(Ping) };
  const both = { ...declaration, replies: { 200: page, 202: deletion, 204: { description: "" } } };
  const empty = { object: "list", data: [], first_id: null, last_id: null } as const;
  const routes = [
    route(both, (_, { json }) => json(200, { ...empty, has_more: false })),
    route(both, (_, { json }) => json(202, { id: "ping_1", object: "ping", deleted: true })),
    // @ts-expect-error: a member of a page is missing
    route(both, (_, { json }) => json(200, empty)),
    // @ts-expect-error: `deleted` is always true
    route(both, (_, { json }) => json(202, { id: "ping_1", object: "ping", deleted: false })),
    // @ts-expect-error: this is the body of another status
    route(both, (_, { json }) => json(200, { id: "ping_1", object: "ping", deleted: true })),
    // @ts-expect-error: this status has no body
    route(both, (_, { json }) => json(204, {})),
  ];
  expect(routes).toHaveLength(6);
});

test("a handler cannot make its JSON reply in another way", () => {
  const stream = { ...replies[200], events: { data: Ping } };
  const routes = [
    // @ts-expect-error: Hono's own `c.json`
    route({ ...declaration, replies }, (c) => c.json({ ping: "pong", at: null })),
    // @ts-expect-error: a plain reply
    route({ ...declaration, replies }, (c) => c.body("{}")),
    // @ts-expect-error: Hono's own `c.json`, also where a stream is declared too
    route({ ...declaration, replies: { 200: stream } }, (c) => c.json({ ping: "pong" })),
    route({ ...declaration, replies: { 200: stream } }, (c) => c.body("data: {}\n\n")),
    route({ ...declaration, replies: { 204: { description: "" } } }, (c) => c.body(null, 204)),
  ];
  expect(routes).toHaveLength(5);
});
