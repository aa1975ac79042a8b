/** `/v1/keys`: the calls that each scope allows, and that no key can create one with more rights than its own. */
import { expect, test } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import type { ApiKey } from "../../../shared/api/keys.ts";
import { KEY_VERSION } from "../../../shared/keys/record.ts";
import { apiKeyKey } from "../../../shared/redis/keys.ts";
import { card, Client, errorOf, keys, newTenant, redis } from "../harness.ts";

const everything = { scopes: ["jobs:write", "jobs:read", "admin"] } as const;
const newAdmin = (limits = {}) => newTenant({ scopes: [...everything.scopes], limits });

type CreatedKey = ApiKey & { key: string };

async function createKey(admin: Client, fields: object): Promise<CreatedKey> {
  const reply = await admin.post("/v1/keys", { name: "made", ...fields });
  if (reply.status !== 201) throw new Error(await reply.text());
  return reply.json();
}

const clientOf = (admin: Client, { key, id }: CreatedKey) => new Client(key, admin.tenant, id);
const works = async (client: Client) => (await client.get("/v1/models")).status === 200;

test("a new key works for the same tenant, and the list does not show its secret", async () => {
  const admin = await newAdmin();
  const key = await createKey(admin, { limits: { models: [card.id] } });
  expect(key).toEqual({
    id: expect.stringMatching(/^key_/),
    object: "api_key",
    name: "made",
    created_at: expect.closeTo(Date.now() / 1000, 0),
    scopes: ["jobs:write", "jobs:read"],
    limits: { models: [card.id] },
    within: [],
    key: expect.stringMatching(/^tt_/),
  });
  const { id } = await clientOf(admin, key).submit();
  expect(await admin.job(id)).toMatchObject({ id });
  const { key: _, ...listed } = key;
  const list = await (await admin.get("/v1/keys")).json<{ data: ApiKey[] }>();
  expect(list.data).toHaveLength(2);
  expect(list.data).toContainEqual(listed);
});

test.each([
  ["GET", "/v1/models", "jobs:read"],
  ["GET", "/v1/jobs/job_x", "jobs:read"],
  ["GET", "/v1/jobs/job_x/events", "jobs:read"],
  ["POST", "/v1/jobs", "jobs:write"],
  ["POST", "/v1/jobs/job_x/cancel", "jobs:write"],
  ["POST", "/v1/chat/completions", "jobs:write"],
  ["GET", "/v1/keys", "admin"],
  ["POST", "/v1/keys", "admin"],
  ["DELETE", "/v1/keys/key_x", "admin"],
  ["POST", "/v1/keys/key_x/rotate", "admin"],
] as const)("%s %s needs the scope %s, and no other", async (method, path, scope) => {
  const others = everything.scopes.filter((other) => other !== scope);
  const refused = await (await newTenant({ scopes: others })).send(path, method);
  expect(refused.status).toBe(403);
  expect((await errorOf(refused)).message).toContain(scope);
  expect((await (await newTenant({ scopes: [scope] })).send(path, method)).status).not.toBe(403);
});

test("a revoked key and its older secret are refused at once; its jobs continue", async () => {
  const admin = await newAdmin();
  const first = await createKey(admin, {});
  const client = clientOf(admin, first);
  const { id } = await client.submit();
  await admin.post(`/v1/keys/${first.id}/rotate`, { overlap: 60 });
  expect(await works(client)).toBe(true);
  const reply = await admin.send(`/v1/keys/${first.id}`, "DELETE");
  expect(await reply.json()).toEqual({ id: first.id, object: "api_key", deleted: true });
  expect(await works(client)).toBe(false);
  expect(await admin.job(id)).toMatchObject({ state: "queued" });
});

test("a rotated key keeps its id; the old secret works until the overlap ends", async () => {
  const admin = await newAdmin();
  const first = await createKey(admin, {});
  const rotate = async (overlap: object) =>
    (await admin.post(`/v1/keys/${first.id}/rotate`, overlap)).json<CreatedKey>();
  const second = await rotate({ overlap: 1 });
  expect(second).toEqual({ ...first, key: second.key });
  expect(await works(clientOf(admin, first))).toBe(true);
  expect(await works(clientOf(admin, second))).toBe(true);
  await expect.poll(() => works(clientOf(admin, first)), { timeout: 10_000 }).toBe(false);
  const third = await rotate({});
  expect(await works(clientOf(admin, second))).toBe(false);
  expect(await works(clientOf(admin, third))).toBe(true);
});

test.each([
  [{ requests_per_minute: 10 }, { limits: {} }, "limits.requests_per_minute"],
  [{ tokens_per_minute: 10 }, { limits: { tokens_per_minute: 11 } }, "limits.tokens_per_minute"],
  [{ concurrent_jobs: 1 }, { limits: { concurrent_jobs: null } }, "limits.concurrent_jobs"],
  [{}, { limits: { alpha: { min: 0, max: 1 } } }, "limits.alpha"],
  [{ alpha: { min: 0, max: 1 } }, { limits: {} }, "limits.alpha"],
  [{ alpha: { min: 0, max: 1 } }, { limits: { alpha: { min: -0.1, max: 1 } } }, "limits.alpha"],
  [{ models: ["a"] }, { limits: {} }, "limits.models"],
  [{ models: ["a"] }, { limits: { models: ["a", "b"] } }, "limits.models"],
])("a key with the limits %j cannot create one with %j", async (limits, fields, param) => {
  const admin = await newAdmin(limits);
  const reply = await admin.post("/v1/keys", { name: "wider", ...fields });
  expect(await errorOf(reply)).toMatchObject({ status: 403, code: "permission_denied", param });
  // It cannot rotate an existing one either, which would show its secret.
  const wider = await newTenant({ limits: fields.limits }, admin.tenant);
  const rotated = await admin.post(`/v1/keys/${wider.keyId}/rotate`, {});
  expect(await errorOf(rotated)).toMatchObject({ status: 403, param });
  expect(await works(wider)).toBe(true);
});

test("a key can create keys with its own scopes, and with no other", async () => {
  const admin = await newTenant({ scopes: ["admin"], limits: { requests_per_minute: 5 } });
  const reply = await admin.post("/v1/keys", { name: "x", scopes: ["admin", "jobs:read"] });
  expect(await errorOf(reply)).toMatchObject({ status: 403, param: "scopes.1" });
  const limits = { requests_per_minute: 5 };
  expect(await createKey(admin, { scopes: ["admin"], limits })).toMatchObject({ limits });
});

test("another tenant's key is not found, like a key that does not exist", async () => {
  const admin = await newAdmin();
  const stranger = await newTenant();
  for (const ask of [
    (id: string) => admin.send(`/v1/keys/${id}`, "DELETE"),
    (id: string) => admin.post(`/v1/keys/${id}/rotate`, {}),
  ]) {
    const { request_id: _, ...foreign } = await errorOf(await ask(stranger.keyId));
    const { request_id: __, ...missing } = await errorOf(await ask("key_missing"));
    expect(foreign).toEqual(missing);
    expect(foreign).toMatchObject({ status: 404, code: "not_found" });
  }
  expect(await works(stranger)).toBe(true);
});

test.each([
  [{ name: "" }, "name"],
  [{ scopes: [] }, "scopes"],
  [{ scopes: ["root"] }, "scopes.0"],
  [{ limits: { requests_per_minute: 0 } }, "limits.requests_per_minute"],
  [{ limits: { alpha: { min: 1, max: 0 } } }, "limits.alpha.max"],
  [{ limits: { alpha: { min: -5, max: 0 } } }, "limits.alpha.min"],
  [{ limits: { models: [] } }, "limits.models"],
  [{ limits: { tokens_per_day: 1 } }, "limits.tokens_per_day"],
])("a key with %j is refused, and the error names the field", async (fields, param) => {
  const reply = await (await newAdmin()).post("/v1/keys", { name: "x", ...fields });
  expect(await errorOf(reply)).toMatchObject({ status: 400, param });
});

test("a tenant has a limit of keys", async () => {
  const admin = await newAdmin();
  const more = Array.from({ length: LIMITS.keysPerTenantMax - 1 }, () =>
    keys.create("x", admin.tenant),
  );
  await Promise.all(more);
  const reply = await admin.post("/v1/keys", { name: "one too many" });
  expect((await errorOf(reply)).message).toBe(
    "A tenant may have at most 100 API keys; revoke one first",
  );
});

test("the limits of a key also hold for all keys that it makes together, whatever is revoked", async () => {
  const limits = { requests_per_minute: 3 };
  const admin = await newAdmin(limits);
  const body = { model: card.id, prompt: "Hello" };
  const statuses: number[] = [];
  for (let i = 0; i < 4; i++) {
    const key = await createKey(admin, { limits });
    expect(key.within).toEqual([admin.keyId]);
    statuses.push((await clientOf(admin, key).post("/v1/jobs", body)).status);
    await admin.send(`/v1/keys/${key.id}`, "DELETE");
  }
  expect(statuses).toEqual([202, 202, 202, 429]);
  expect((await admin.post("/v1/jobs", body)).status).toBe(429);
  const child = await createKey(admin, { scopes: ["admin", "jobs:write"], limits });
  const grandchild = await createKey(clientOf(admin, child), { scopes: ["jobs:write"], limits });
  expect(grandchild.within).toEqual([child.id, admin.keyId]);
  await clientOf(admin, child).send(`/v1/keys/${admin.keyId}`, "DELETE");
  const refused = await clientOf(admin, grandchild).post("/v1/jobs", body);
  expect((await errorOf(refused)).message).toBe(
    `${admin.keyId} and the API keys within it have at most 3 requests a minute`,
  );
});

test("keys are within at most three limited keys", async () => {
  const limits = { requests_per_minute: 3 };
  let maker = await newAdmin(limits);
  for (let level = 1; level <= LIMITS.keyLevelsMax; level++) {
    maker = clientOf(maker, await createKey(maker, { scopes: ["admin"], limits }));
  }
  const reply = await maker.post("/v1/keys", { name: "x", scopes: ["admin"], limits });
  expect(await errorOf(reply)).toMatchObject({ status: 400 });
});

test("a key of a newer release is not used with the limits that are known", async () => {
  const client = await newTenant();
  await redis.hset(apiKeyKey(client.keyId), "version", KEY_VERSION + 1);
  const reply = await client.get("/v1/models");
  expect(await errorOf(reply)).toMatchObject({ status: 503, code: "upgrade_in_progress" });
  expect(reply.headers.get("x-should-retry")).toBe("true");
});
