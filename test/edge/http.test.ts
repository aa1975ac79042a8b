/** What holds for every reply, whatever the route. */
import { expect, test } from "vitest";
import { errorOf, newTenant, send } from "./harness.ts";

test("every reply has a request id: the caller's if it is sane, else a new one", async () => {
  const id = async (given: Record<string, string>) =>
    (await send("/healthz", { headers: given })).headers.get("x-request-id");
  expect(await id({ "x-request-id": "trace-1" })).toBe("trace-1");
  expect(await id({})).toMatch(/^req_[A-Za-z0-9]{24}$/);
  expect(await id({ "x-request-id": "a b" })).toMatch(/^req_/);
  expect(await id({ "x-request-id": "x".repeat(129) })).toMatch(/^req_/);
});

test("an error carries the request's id in its body too", async () => {
  const reply = await send("/nothing", { headers: { "x-request-id": "trace-2" } });
  expect(await errorOf(reply)).toMatchObject({
    status: 404,
    code: "not_found",
    request_id: "trace-2",
  });
});

test("a browser of any origin may call with a key, and read the ids", async () => {
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

test("an error too may be read by a browser", async () => {
  const reply = await send("/v1/models", { headers: { origin: "https://app.example" } });
  expect(reply.status).toBe(401);
  expect(reply.headers.get("access-control-allow-origin")).toBe("*");
});

test("an unknown path under /v1 is 404 to those who have a key", async () => {
  const client = await newTenant();
  expect(await errorOf(await client.get("/v1/nothing"))).toMatchObject({
    status: 404,
    code: "not_found",
  });
});
