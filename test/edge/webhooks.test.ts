/** Webhook endpoints, deliveries and keys as their owner manages them, and what others see of them. */
import { Webhook } from "standardwebhooks";
import { expect, test } from "vitest";
import { LIMITS } from "../../shared/limits.ts";
import type {
  WebhookDelivery,
  WebhookEndpoint,
  WebhookKey,
} from "../../shared/webhook-contract.ts";
import { errorOf, newTenant, send, webhooks, type Client } from "./harness.ts";

const ENDPOINTS = "/v1/webhook_endpoints";
const DELIVERIES = "/v1/webhook_deliveries";
const url = "https://example.com/hook";

interface List<T> {
  readonly data: T[];
  readonly has_more?: boolean;
}

async function created(client: Client, fields: object = {}): Promise<WebhookEndpoint> {
  const reply = await client.post(ENDPOINTS, { url, ...fields });
  expect(reply.status).toBe(201);
  return reply.json();
}

const listed = async <T>(client: Client, path: string) => (await client.get(path)).json<List<T>>();

const owner = () => newTenant({ scopes: ["jobs:write", "jobs:read", "admin"] });

/** A queued job that was cancelled, which announces it. */
async function cancelled(client: Client, fields: object = {}): Promise<string> {
  const { id } = await client.submit(fields);
  await client.post(`/v1/jobs/${id}/cancel`);
  return id;
}

test("an endpoint is made, read, listed, changed and deleted", async () => {
  const client = await owner();
  const events = ["job.failed", "job.expired"];
  const endpoint = await created(client, { events, description: "pager" });
  expect(endpoint).toEqual({
    id: expect.stringMatching(/^ep_[A-Za-z0-9]{24}$/),
    object: "webhook_endpoint",
    url,
    events,
    description: "pager",
    enabled: true,
    disabled: null,
    created_at: expect.any(Number),
  });
  const path = `${ENDPOINTS}/${endpoint.id}`;
  expect(await (await client.get(path)).json()).toEqual(endpoint);
  const other = await created(client, { enabled: false });
  expect(other).toMatchObject({ events: null, enabled: false });
  expect((await listed(client, ENDPOINTS)).data).toEqual([endpoint, other]);

  const moved = await client.patch(path, { url: "https://example.com/b", events: null });
  expect(await moved.json()).toEqual({ ...endpoint, url: "https://example.com/b", events: null });
  const off = await (await client.patch(path, { enabled: false })).json();
  expect(off).toMatchObject({
    enabled: false,
    disabled: { reason: "switched off by its owner", at: expect.any(Number) },
  });
  expect(await (await client.patch(path, { enabled: true })).json()).toMatchObject({
    enabled: true,
    disabled: null,
    description: "pager",
  });

  expect((await client.send(path, "DELETE")).status).toBe(200);
  expect((await client.get(path)).status).toBe(404);
  expect((await listed(client, ENDPOINTS)).data).toEqual([other]);
});

test("a tenant has a bounded count of endpoints, also when many are made at once", async () => {
  const client = await owner();
  const most = LIMITS.webhookEndpointsMax;
  const replies = await Promise.all(
    Array.from({ length: most + 4 }, () => client.post(ENDPOINTS, { url })),
  );
  const refused = replies.filter((reply) => reply.status !== 201);
  expect(refused).toHaveLength(4);
  expect((await errorOf(refused[0]!)).message).toBe(`A tenant has at most ${most} endpoints`);
});

test.each<[object, string, string | RegExp]>([
  [{ url: undefined }, "url", "url is required"],
  [{ url: "ftp://example.com" }, "url", /http or https/],
  [
    { url: "http://169.254.169.254/latest" },
    "url",
    "url must not lead to a private, local or reserved address",
  ],
  [{ url: "http://[::ffff:10.0.0.1]/" }, "url", /private/],
  [{ url: "https://a:b@example.com/" }, "url", "url must not hold a user name or a password"],
  [{ url: "https://example.com:25/" }, "url", "url must use port 80, 443, or one from 1024 on"],
  [{ events: [] }, "events", "events must not be empty"],
  [{ events: ["job.started"] }, "events.0", /must be "job.succeeded" \|/],
  [{ description: "x".repeat(300) }, "description", /at most 256 characters, received 300$/],
  [{ secret: "x" }, "secret", "secret is not a supported parameter"],
])("an endpoint with %j is refused, and so is a change to it", async (fields, param, message) => {
  const client = await owner();
  const error = await errorOf(await client.post(ENDPOINTS, { url, ...fields }));
  expect(error).toMatchObject({ status: 400, param });
  expect(error.message).toMatch(message);
  if (param === "url" && !("url" in fields && fields.url)) return;
  const { id } = await created(client);
  expect((await client.patch(`${ENDPOINTS}/${id}`, fields)).status).toBe(400);
});

test.each(["http://127.0.0.1/", "http://localhost:9000/", "https://u:p@example.com/"])(
  "a job's own webhook URL %s is refused too",
  async (url) => {
    const client = await owner();
    const reply = await client.post("/v1/jobs", { model: "demo", prompt: "x", webhook: { url } });
    expect(await errorOf(reply)).toMatchObject({ status: 400, param: "webhook.url" });
    expect(await client.queuedJobs()).toEqual([]);
  },
);

test("an ended job is announced to the endpoints that want it, and to its own URL", async () => {
  const client = await owner();
  const all = await created(client);
  const some = await created(client, { events: ["job.cancelled"] });
  await created(client, { events: ["job.succeeded"] });
  await created(client, { enabled: false });
  const id = await cancelled(client, { webhook: { url: "https://example.com/own" } });
  const { data } = await listed<WebhookDelivery>(client, `${DELIVERIES}?job=${id}`);
  const ofEndpoint = (endpoint: string | null) => data.find((d) => d.endpoint === endpoint);
  expect(data).toHaveLength(3);
  expect(ofEndpoint(all.id)).toEqual({
    id: expect.any(String),
    object: "webhook_delivery",
    message_id: id.replace("job_", "msg_"),
    type: "job.cancelled",
    endpoint: all.id,
    job: id,
    url,
    state: "pending",
    created_at: expect.any(Number),
    next_attempt_at: expect.any(Number),
    attempts: [],
  });
  expect(ofEndpoint(some.id)).toMatchObject({ url });
  expect(ofEndpoint(null)).toMatchObject({ url: "https://example.com/own", job: id });
});

test("deliveries are listed by pages, the newest first, and of one endpoint", async () => {
  const client = await owner();
  const endpoint = await created(client);
  const own = { webhook: { url } };
  const jobs = [
    await cancelled(client, own),
    await cancelled(client, own),
    await cancelled(client),
  ];
  const idsOf = ({ data }: List<WebhookDelivery>) => data.map(({ id }) => id);
  const all = idsOf(await listed(client, DELIVERIES));
  expect(all).toHaveLength(5);
  const ofEndpoint = await listed<WebhookDelivery>(client, `${DELIVERIES}?endpoint=${endpoint.id}`);
  expect(ofEndpoint.data.map(({ job }) => job)).toEqual(jobs.toReversed());

  const first = await listed<WebhookDelivery>(client, `${DELIVERIES}?limit=3`);
  expect(first.has_more).toBe(true);
  const rest = await listed<WebhookDelivery>(client, `${DELIVERIES}?limit=3&after=${all[2]}`);
  expect(rest.has_more).toBe(false);
  expect([...idsOf(first), ...idsOf(rest)]).toEqual(all);
  for (const query of ["limit=0", "limit=101", "limit=x", "after=nobody"]) {
    const error = await errorOf(await client.get(`${DELIVERIES}?${query}`));
    expect(error).toMatchObject({ status: 400, param: query.split("=")[0] });
  }
});

test("a delivery shows its attempts, and can be replayed", async () => {
  const client = await owner();
  const job = await cancelled(client, { webhook: { url } });
  const id = `${job.replace("job_", "msg_")}-job`;
  const attempt = { attempt: 1, at: 5, status: 500, error: null, duration_ms: 12 };
  const { deliveries } = webhooks;
  await deliveries.record(client.tenant, { id, round: 1 }, attempt, "failed", null);
  const path = `${DELIVERIES}/${id}`;
  const failed = { state: "failed", next_attempt_at: null, attempts: [attempt] };
  expect(await (await client.get(path)).json()).toMatchObject(failed);

  const reply = await client.post(`${path}/replay`);
  expect(reply.status).toBe(202);
  expect(await reply.json()).toMatchObject({ id, state: "pending", attempts: [attempt] });
  expect(await deliveries.one(client.tenant, id)).toMatchObject({ round: 2 });
  // What is still on its way from before the replay no longer decides.
  await deliveries.record(client.tenant, { id, round: 1 }, attempt, "failed", null);
  expect(await (await client.get(path)).json()).toMatchObject({ state: "pending" });
});

test("nothing of a deleted job is kept, in the log or in the inbox, or sent", async () => {
  const client = await owner();
  await created(client);
  const [gone, kept] = [await cancelled(client, { webhook: { url } }), await cancelled(client)];
  expect((await client.send(`/v1/jobs/${gone}`, "DELETE")).status).toBe(200);
  const { data } = await listed<WebhookDelivery>(client, DELIVERIES);
  expect(data.map(({ job }) => job)).toEqual([kept]);
  const id = `${gone.replace("job_", "msg_")}-job`;
  expect(await webhooks.deliveries.body(client.tenant, id)).toBeNull();
  expect((await client.get(`${DELIVERIES}/${id}`)).status).toBe(404);
  expect(await webhooks.inbox.read(client.tenant, 0, 9)).toMatchObject([{ seq: 2 }]);
});

test("a test is sent to one endpoint; to a disabled one nothing is", async () => {
  const client = await owner();
  const { id } = await created(client, { events: ["job.failed"] });
  const reply = await client.post(`${ENDPOINTS}/${id}/test`);
  expect(reply.status).toBe(202);
  const delivery = await reply.json<WebhookDelivery>();
  expect(delivery).toMatchObject({ type: "webhook.test", endpoint: id, job: null });
  expect(reply.headers.get("location")).toBe(`${DELIVERIES}/${delivery.id}`);

  await client.patch(`${ENDPOINTS}/${id}`, { enabled: false });
  const paths = [`${ENDPOINTS}/${id}/test`, `${DELIVERIES}/${delivery.id}/replay`];
  for (const path of paths) {
    const error = await errorOf(await client.post(path));
    expect(error).toMatchObject({ status: 409, code: "endpoint_disabled" });
    expect(error.message).toContain("switched off by its owner");
  }
});

test("another tenant's endpoints and deliveries do not exist", async () => {
  const [mine, stranger] = [await owner(), await owner()];
  const { id } = await created(mine);
  const job = await cancelled(mine);
  const endpoint = `${ENDPOINTS}/${id}`;
  const delivery = `${DELIVERIES}/${job.replace("job_", "msg_")}-${id}`;
  expect((await mine.get(delivery)).status).toBe(200);
  for (const reply of await Promise.all([
    stranger.get(endpoint),
    stranger.patch(endpoint, { url }),
    stranger.send(endpoint, "DELETE"),
    stranger.post(`${endpoint}/test`),
    stranger.get(delivery),
    stranger.post(`${delivery}/replay`),
  ])) {
    expect(reply.status).toBe(404);
  }
  expect((await listed(stranger, ENDPOINTS)).data).toEqual([]);
  expect((await listed(stranger, DELIVERIES)).data).toEqual([]);
  expect((await mine.get(endpoint)).status).toBe(200);
});

test("public keys are for everybody, secrets are shown once, and rotation keeps the old key for a while", async () => {
  const client = await owner();
  const keys = async () => {
    const reply = await client.get("/v1/webhook_keys");
    return reply.json<{ data: WebhookKey[]; jwks_url: string }>();
  };
  const { data: before, jwks_url } = await keys();
  expect(before).toMatchObject([{ public_key: expect.stringMatching(/^whpk_/), expires_at: null }]);
  expect(jwks_url).toBe(`http://edge.test/.well-known/jwks.json?tenant=${client.tenant}`);

  const rotated = await client.post("/v1/webhook_keys/rotate", { overlap_seconds: 60 });
  expect(rotated.status).toBe(201);
  expect(rotated.headers.get("cache-control")).toBe("no-store");
  const { id, secret } = await rotated.json<{ id: string; secret: string }>();
  expect(() => new Webhook(secret)).not.toThrow();
  const { data: after } = await keys();
  expect(after.map((key) => key.id)).toEqual([id, before[0]!.id]);
  expect(after[1]!.expires_at! - Date.now() / 1000).toBeGreaterThan(50);
  expect(JSON.stringify(after)).not.toContain("whsec_");

  const jwks = await send(new URL(jwks_url).pathname + new URL(jwks_url).search);
  expect(jwks.headers.get("content-type")).toBe("application/jwk-set+json");
  const text = await jwks.text();
  const { keys: jwk } = JSON.parse(text) as { keys: { kid: string; x: string }[] };
  expect(jwk.map(({ kid }) => kid)).toEqual(after.map((key) => key.id));
  for (const [i, { x }] of jwk.entries()) {
    const raw = x.replaceAll("-", "+").replaceAll("_", "/");
    expect(after[i]!.public_key).toBe(`whpk_${raw}=`);
    expect(Object.keys(jwk[i]!).sort()).toEqual(["alg", "crv", "kid", "kty", "use", "x"]);
  }

  // Two at most: another rotation ends the first.
  await client.post("/v1/webhook_keys/rotate", {});
  expect((await keys()).data.map((key) => key.id)).toEqual([expect.any(String), id]);
  await client.post("/v1/webhook_keys/rotate", { overlap_seconds: 0 });
  expect((await keys()).data).toHaveLength(1);
});

test("the public keys of nobody are none, and of whom must be said", async () => {
  const reply = await send("/.well-known/jwks.json?tenant=nobody");
  expect(await reply.json()).toEqual({ keys: [] });
  expect(await errorOf(await send("/.well-known/jwks.json"))).toMatchObject({
    status: 400,
    param: "tenant",
  });
});

test("a key without the scope admin sees endpoints and replays, and changes nothing that others get", async () => {
  const admin = await owner();
  const { id } = await created(admin);
  const job = await cancelled(admin);
  const client = await newTenant({ scopes: ["jobs:write", "jobs:read"] }, admin.tenant);
  for (const reply of await Promise.all([
    client.post(ENDPOINTS, { url }),
    client.patch(`${ENDPOINTS}/${id}`, { url }),
    client.send(`${ENDPOINTS}/${id}`, "DELETE"),
    client.post(`${ENDPOINTS}/${id}/test`),
    client.post("/v1/webhook_keys/rotate", {}),
  ])) {
    expect(await errorOf(reply)).toMatchObject({ status: 403, code: "permission_denied" });
  }
  expect((await client.get(`${ENDPOINTS}/${id}`)).status).toBe(200);
  const delivery = `${DELIVERIES}/${job.replace("job_", "msg_")}-${id}`;
  expect((await client.post(`${delivery}/replay`)).status).toBe(202);
});
