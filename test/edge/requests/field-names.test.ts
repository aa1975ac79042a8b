/** Names of fields that every JavaScript object has: they are refused or kept like any other name, and never ignored. */
import { beforeAll, expect, test } from "vitest";
import { BatchLine } from "../../../shared/api/batches.ts";
import { parseRequest } from "../../../shared/submission/validate.ts";
import { card, errorOf, newTenant, store, type Client } from "../harness.ts";

let client: Client;
beforeAll(async () => {
  client = await newTenant();
});

/** Sends the fields as text, because an object literal cannot have a member with the name `__proto__`. */
const post = (fields: string) =>
  client.post("/v1/jobs", `{"model": "${card.id}", "prompt": "Hi", ${fields}}`);

test.each([
  ["metadata", '{"__proto__": "a"}', "metadata must be an object without the key __proto__"],
  ["metadata", '{"constructor": "a"}', "metadata must be an object without the key constructor"],
  ["metadata", '{"prototype": "a"}', "metadata must be an object without the key prototype"],
  ["logit_bias", '{"__proto__": 1}', "logit_bias must be an object without the key __proto__"],
  ["metadata", '["a"]', "metadata must be an object, not a list"],
  ["metadata", "[1]", "metadata must be an object, not a list"],
  ["logit_bias", "[1]", "logit_bias must be an object, not a list"],
])("%s: %s is refused", async (param, value, message) => {
  const reply = await post(`"${param}": ${value}`);
  expect(await errorOf(reply)).toMatchObject({ status: 400, param, message });
});

test.each([
  ["/v1/jobs", '{"model": "x", "prompt": "Hi", "steering": [[]]}', "steering must be an object"],
  ["/v1/jobs", "[]", "The body must be an object"],
  ["/v1/jobs/cancel", "[]", "The body must be an object"],
  ["/v1/jobs/cancel", '{"metadata": []}', "metadata must be an object with at least one pair"],
])("%s refuses %s: a list is no object", async (path, body, message) => {
  const error = await errorOf(await client.post(path, body));
  expect(error).toMatchObject({ status: 400, message: expect.stringContaining(message) });
});

test.each(["__proto__", "constructor", "toString"])(
  "an unknown field %s is refused",
  async (name) => {
    const reply = await post(`"${name}": {"a": 1}`);
    expect(await errorOf(reply)).toMatchObject({ code: "unsupported_parameter", param: name });
  },
);

test.each([
  ["/v1/jobs?limt=5", "limt"],
  ["/v1/jobs?limit[a]=5", "limit[a]"],
  ["/v1/jobs?limit[]=5", "limit[]"],
  ["/v1/models?lifecycle[a]=active", "lifecycle[a]"],
  ["/v1/models?beta=false", "beta"],
  ["/v1/models?toString=1", "toString"],
  ["/v1/keys/me?stream=true", "stream"],
  [`/v1/jobs?${"x".repeat(100)}=1`, "x".repeat(64)],
])("the query of %s is refused", async (path, param) => {
  const error = await errorOf(await client.get(path));
  expect(error).toMatchObject({ status: 400, code: "unsupported_parameter", param });
});

test.each([
  ["/v1/jobs?state=failed&state=succeeded", "state"],
  ["/v1/jobs?limit=2&limit=3", "limit"],
  ["/v1/jobs?state=&state=failed", "state"],
  ["/v1/chat/completions?metadata[a]=1&metadata[a]=2", "metadata[a]"],
  ["/v1/jobs/job_1/events?after=3&after=5", "after"],
])("%s gives a parameter twice", async (path, param) => {
  const error = await errorOf(await client.get(path));
  const message = `${param} is given twice`;
  expect(error).toMatchObject({ status: 400, code: "invalid_request", param, message });
});

test.each(["lifecycle=active&lifecycle=retired", "lifecycle[]=active&lifecycle[]=retired"])(
  "a list is given by its members: %s",
  async (query) => {
    expect((await client.get(`/v1/models?${query}`)).status).toBe(200);
  },
);

test.each(["/v1/models?stream=false&limit=&order=&beta=true", "/healthz?cache=1", "/play?job=1"])(
  "%s asks for nothing more, or is a page",
  async (path) => {
    expect((await client.get(path)).status).toBe(200);
  },
);

test("the query of a POST is checked before its body", async () => {
  const reply = await client.post("/v1/messages?alpha=2", "{");
  expect((await reply.json<{ error: object }>()).error).toMatchObject({ param: "alpha" });
  const beta = await client.post("/v1/messages?beta=true", "{");
  expect(await beta.text()).toContain("The body is not valid JSON");
});

test("a parameter that only queries may have is refused in a body", async () => {
  expect(await errorOf(await post('"beta": "true"'))).toMatchObject({ param: "beta" });
});

test("other inherited names are kept in metadata", async () => {
  const metadata = { toString: "a", hasOwnProperty: "b", valueOf: "c" };
  const { id } = await client.submit({ metadata });
  expect((await client.job(id)).metadata).toEqual(metadata);
  expect((await store.record(id))?.metadata).toEqual(metadata);
});

test("a batch line whose body has such a name is refused", () => {
  const line: unknown = JSON.parse(
    '{"custom_id": "__proto__", "method": "POST", "url": "/v1/completions", "body": {"__proto__": 1}}',
  );
  expect(() => parseRequest(BatchLine, line)).toThrow("body must be an object without the key");
});
