/** Which API keys are accepted, and that a key sees nothing of other tenants. */
import { expect, test } from "vitest";
import { errorOf, keys, newTenant, play, send } from "../harness.ts";

test("a request without a key is refused in the body shape that openai clients parse", async () => {
  const reply = await send("/v1/models");
  expect(reply.headers.get("www-authenticate")).toBe('Bearer realm="trimtab"');
  expect(await errorOf(reply)).toEqual({
    status: 401,
    code: "invalid_api_key",
    type: "authentication_error",
    message: "Expected an API key: `Authorization: Bearer …`, or `x-api-key: …`",
    param: null,
    request_id: reply.headers.get("x-request-id"),
  });
});

test.each([
  "Bearer tt_unknown",
  "Bearer tt9_of-no-shard",
  "Basic dDp0",
  "Bearer",
  "Bearer a b",
  `Bearer ${"k".repeat(300)}`,
])("the authorization %.24s is refused", async (authorization) => {
  const reply = await send("/v1/jobs/job_x", { headers: { authorization } });
  expect(reply.status).toBe(401);
});

// A line end in a path is not matched by `.` in a pattern.
test.each(["/v1/jobs/a%0Ab", "/v1/models/%0A", "/v1/responses/%E2%80%A8/input_items", "/v1/%0A"])(
  "%s needs a key, and is not found with one",
  async (path) => {
    expect((await send(path)).status).toBe(401);
    expect((await (await newTenant()).get(path)).status).toBe(404);
  },
);

test("another tenant's job gets the same reply as a job that does not exist", async () => {
  const owner = await newTenant();
  const stranger = await newTenant();
  const { id } = await owner.submit();
  await play(id, ["secret"]);
  for (const ask of [
    (job: string) => stranger.get(`/v1/jobs/${job}`),
    (job: string) => stranger.get(`/v1/jobs/${job}/events`),
    (job: string) => stranger.post(`/v1/jobs/${job}/cancel`),
  ]) {
    const { request_id: _, ...foreign } = await errorOf(await ask(id));
    const { request_id: __, ...missing } = await errorOf(await ask("job_doesnotexist"));
    expect(foreign).toEqual(missing);
    expect(foreign.status).toBe(404);
  }
});

test("a revoked key is refused from the next request on", async () => {
  const owner = await newTenant();
  expect((await owner.get("/v1/models")).status).toBe(200);
  await keys.revoke(owner.keyId);
  expect((await owner.get("/v1/models")).status).toBe(401);
});
