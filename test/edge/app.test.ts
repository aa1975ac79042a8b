/** Properties of every reply, on any route. */
import { expect, test } from "vitest";
import { card, errorOf, newTenant, openaiOf, send, store } from "./harness.ts";
import { ROUTES } from "./reply-check.ts";

test("every reply has a request id: the caller's if it is valid, else a new one", async () => {
  const id = async (headers: Record<string, string>) =>
    (await send("/healthz", { headers })).headers.get("x-request-id");
  expect(await id({ "x-request-id": "trace-1" })).toBe("trace-1");
  expect(await id({})).toMatch(/^req_[A-Za-z0-9]{24}$/);
  expect(await id({ "x-request-id": "a b" })).toMatch(/^req_/);
  expect(await id({ "x-request-id": "x".repeat(129) })).toMatch(/^req_/);
});

test("an error also has the request's id in its body", async () => {
  const reply = await send("/nothing", { headers: { "x-request-id": "trace-2" } });
  expect(await errorOf(reply)).toMatchObject({
    status: 404,
    code: "not_found",
    request_id: "trace-2",
  });
});

test("an error is a problem of RFC 9457, in a body that openai clients also read", async () => {
  const client = await newTenant({ limits: { concurrent_jobs: 1 } });
  const reply = await client.post("/v1/jobs", { model: card.id, prompt: "x", seed: 0.5 });
  expect(reply.headers.get("content-type")).toBe("application/problem+json");
  const request = reply.headers.get("x-request-id");
  expect(await reply.json()).toEqual({
    type: "urn:problem-type:trimtab:invalid_request",
    title: "Invalid request",
    status: 400,
    detail: "seed must be an integer, received 0.5",
    instance: `urn:trimtab:request:${request}`,
    error: {
      code: "invalid_request",
      type: "invalid_request_error",
      message: "seed must be an integer, received 0.5",
      param: "seed",
      request_id: request,
    },
  });
  await client.submit();
  const openai = openaiOf(client).withOptions({ maxRetries: 0 });
  const refused = openai.completions.create({ model: card.id, prompt: "x" });
  await expect(refused).rejects.toMatchObject({
    status: 429,
    code: "rate_limit_exceeded",
    type: "rate_limit_error",
    requestID: expect.stringMatching(/^req_/),
    message: "429 This API key allows at most 1 jobs that have not ended",
  });
  const limited = await client.post("/v1/jobs", { model: card.id, prompt: "x" });
  expect(await limited.json()).toMatchObject({
    type: "https://iana.org/assignments/http-problem-types#quota-exceeded",
    "violated-policies": ["jobs"],
  });
});

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

test.each([
  [`00-${TRACE}-01`, `00-${TRACE}-01`],
  [`42-${TRACE}-01-more`, `00-${TRACE}-01`],
  [`00-${TRACE}-01-more`, undefined],
  [`ff-${TRACE}-01`, undefined],
  [`00-${TRACE.toUpperCase()}-01`, undefined],
  [`00-${"0".repeat(32)}-00f067aa0ba902b7-01`, undefined],
  [`00-4bf92f3577b34da6a3ce929d0e0e4736-${"0".repeat(16)}-01`, undefined],
  ["", undefined],
])(
  "for a request with the traceparent %s, the job has the traceparent %s",
  async (traceparent, expected) => {
    const client = await newTenant();
    const reply = await client.post("/v1/jobs", { model: card.id, prompt: "x" }, { traceparent });
    const { id } = await reply.json<{ id: string }>();
    expect((await store.record(id))?.requestOptions.traceparent).toBe(expected);
  },
);

test("a browser of any origin may call the API with a key, and read the headers with ids", async () => {
  const preflight = await send("/v1/chat/completions", {
    method: "OPTIONS",
    headers: {
      origin: "https://app.example",
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization,content-type,x-stainless-os",
    },
  });
  expect(preflight.status).toBe(204);
  expect(preflight.headers.get("access-control-allow-origin")).toBe("*");
  expect(preflight.headers.get("access-control-allow-headers")).toBe(
    "authorization,content-type,x-stainless-os",
  );
  const client = await newTenant();
  const reply = await client.get("/v1/models", { origin: "https://app.example" });
  expect(reply.headers.get("access-control-allow-origin")).toBe("*");
  expect(reply.headers.get("access-control-expose-headers")).toContain("x-trimtab-job-id");
});

test("a browser may also read errors, and the headers that say whether to retry", async () => {
  const reply = await send("/v1/models", { headers: { origin: "https://app.example" } });
  expect(reply.status).toBe(401);
  expect(reply.headers.get("access-control-allow-origin")).toBe("*");
  const exposed = reply.headers.get("access-control-expose-headers")!.split(",");
  expect(exposed).toEqual(
    expect.arrayContaining(["x-should-retry", "retry-after-ms", "x-ratelimit-remaining-tokens"]),
  );
});

test("an unknown path under /v1 gets 404 with a key", async () => {
  const client = await newTenant();
  expect(await errorOf(await client.get("/v1/nothing"))).toMatchObject({
    status: 404,
    code: "not_found",
  });
});

test.each(["/", "/v1", "/v1/", "/health", "/healthz/", "/version"])(
  "GET %s needs no key: clients check their base URL with it",
  async (path) => {
    expect((await send(path)).status).toBe(200);
  },
);

test("the version is that of the API document", async () => {
  const { info } = await (await send("/openapi.json")).json<{ info: { version: string } }>();
  expect(await (await send("/version")).json()).toEqual({ version: info.version });
});

test("a path may end with a slash", async () => {
  const client = await newTenant();
  expect((await client.get("/v1/models/")).status).toBe(200);
  expect((await client.get(`/v1/models/${card.id}/`)).status).toBe(200);
  const { status } = await client.post("/v1/jobs/", { model: card.id, prompt: "x" });
  expect(status).toBe(202);
  expect((await send("/v1/jobs/")).status).toBe(401);
});

test("a browser may read every header that a route declares", async () => {
  const reply = await send("/healthz", { headers: { origin: "https://app.example" } });
  const exposed = reply.headers.get("access-control-expose-headers")!.split(",");
  const declared = ROUTES.flatMap(({ uses = [] }) =>
    uses.flatMap(({ replyHeaders = {} }) => Object.keys(replyHeaders)),
  );
  expect(exposed).toEqual(expect.arrayContaining([...declared, "Retry-After", "WWW-Authenticate"]));
});
