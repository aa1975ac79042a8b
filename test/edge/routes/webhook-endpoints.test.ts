/** Webhook endpoints and their deliveries: their management, and what other tenants and keys may do. */
import { expect, test } from "vitest";
import { LIMITS } from "../../../shared/api/limits.ts";
import type { WebhookDelivery, WebhookEndpoint } from "../../../shared/api/webhooks.ts";
import { errorOf, newTenant, webhooks, type Client } from "../harness.ts";

const ENDPOINTS = "/v1/webhook_endpoints";
const DELIVERIES = "/v1/webhook_deliveries";
const url = "https://example.com/hook";

interface List<T> {
  readonly data: T[];
  readonly has_more?: boolean;
}

async function createEndpoint(client: Client, fields: object = {}): Promise<WebhookEndpoint> {
  const reply = await client.post(ENDPOINTS, { url, ...fields });
  expect(reply.status).toBe(201);
  return reply.json();
}

const list = async <T>(client: Client, path: string) => (await client.get(path)).json<List<T>>();

const owner = () => newTenant({ scopes: ["jobs:write", "jobs:read", "admin"] });

/** Submits a job and cancels it while it is queued, which sends its webhook. @returns the job's id */
async function cancelJob(client: Client, fields: object = {}): Promise<string> {
  const { id } = await client.submit(fields);
  await client.post(`/v1/jobs/${id}/cancel`);
  return id;
}

test("an endpoint is created, read, listed, changed and deleted", async () => {
  const client = await owner();
  const events = ["job.failed", "job.expired"];
  const endpoint = await createEndpoint(client, { events, description: "pager" });
  expect(endpoint).toEqual({
    id: expect.stringMatching(/^ep_[A-Za-z0-9]{24}$/),
    object: "webhook_endpoint",
    url,
    events,
    description: "pager",
    enabled: true,
    disabled: null,
    failing_since: null,
    created_at: expect.any(Number),
  });
  const path = `${ENDPOINTS}/${endpoint.id}`;
  expect(await (await client.get(path)).json()).toEqual(endpoint);
  const other = await createEndpoint(client, { enabled: false });
  expect(other).toMatchObject({ events: null, enabled: false });
  expect((await list(client, ENDPOINTS)).data).toEqual([endpoint, other]);

  const moved = await client.patch(path, { url: "https://example.com/b", events: null });
  expect(await moved.json()).toEqual({ ...endpoint, url: "https://example.com/b", events: null });
  const off = await (await client.patch(path, { enabled: false })).json();
  expect(off).toMatchObject({
    enabled: false,
    disabled: { reason: "disabled by its owner", at: expect.any(Number) },
  });
  expect(await (await client.patch(path, { enabled: true })).json()).toMatchObject({
    enabled: true,
    disabled: null,
    description: "pager",
  });

  expect((await client.send(path, "DELETE")).status).toBe(200);
  expect((await client.get(path)).status).toBe(404);
  expect((await list(client, ENDPOINTS)).data).toEqual([other]);
});

test("a tenant has a limit of endpoints, also if many are created at once", async () => {
  const client = await owner();
  const most = LIMITS.webhookEndpointsMax;
  const replies = await Promise.all(
    Array.from({ length: most + 4 }, () => client.post(ENDPOINTS, { url })),
  );
  const refused = replies.filter((reply) => reply.status !== 201);
  expect(refused).toHaveLength(4);
  expect((await errorOf(refused[0]!)).message).toBe(
    `A tenant may have at most ${most} webhook endpoints; delete one first`,
  );
});

test.each<[object, string, string | RegExp]>([
  [{ url: undefined }, "url", "url is required"],
  [{ url: "ftp://example.com" }, "url", /http or https/],
  [
    { url: "http://169.254.169.254/latest" },
    "url",
    "url must not point to a private, local or reserved address",
  ],
  [{ url: "http://[::ffff:10.0.0.1]/" }, "url", /private/],
  [{ url: "https://a:b@example.com/" }, "url", "url must not contain a user name or a password"],
  [{ url: "https://example.com:25/" }, "url", "url must use port 80, 443, or a port from 1024 up"],
  [{ events: [] }, "events", "events must not be empty"],
  [{ events: ["job.queued"] }, "events.0", /must be "job.started" \|/],
  [{ description: "x".repeat(300) }, "description", /at most 256 characters, received 300$/],
  [{ secret: "x" }, "secret", "secret is not a supported parameter"],
])("an endpoint with %j is refused, and so is a change to it", async (fields, param, message) => {
  const client = await owner();
  const error = await errorOf(await client.post(ENDPOINTS, { url, ...fields }));
  expect(error).toMatchObject({ status: 400, param });
  expect(error.message).toMatch(message);
  if (param === "url" && !("url" in fields && fields.url)) return;
  const { id } = await createEndpoint(client);
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

test("the webhook of an ended job goes to the endpoints that want it, and to the job's own URL", async () => {
  const client = await owner();
  const all = await createEndpoint(client);
  const some = await createEndpoint(client, { events: ["job.cancelled"] });
  await createEndpoint(client, { events: ["job.succeeded"] });
  await createEndpoint(client, { enabled: false });
  const id = await cancelJob(client, { webhook: { url: "https://example.com/own" } });
  const { data } = await list<WebhookDelivery>(client, `${DELIVERIES}?job=${id}`);
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

test("deliveries are listed in pages, the newest first, and can be filtered by endpoint", async () => {
  const client = await owner();
  const endpoint = await createEndpoint(client);
  const own = { webhook: { url } };
  const jobs = [
    await cancelJob(client, own),
    await cancelJob(client, own),
    await cancelJob(client),
  ];
  const idsOf = ({ data }: List<WebhookDelivery>) => data.map(({ id }) => id);
  const all = idsOf(await list(client, DELIVERIES));
  expect(all).toHaveLength(5);
  const ofEndpoint = await list<WebhookDelivery>(client, `${DELIVERIES}?endpoint=${endpoint.id}`);
  expect(ofEndpoint.data.map(({ job }) => job)).toEqual(jobs.toReversed());

  const first = await list<WebhookDelivery>(client, `${DELIVERIES}?limit=3`);
  expect(first.has_more).toBe(true);
  const rest = await list<WebhookDelivery>(client, `${DELIVERIES}?limit=3&after=${all[2]}`);
  expect(rest.has_more).toBe(false);
  expect([...idsOf(first), ...idsOf(rest)]).toEqual(all);
  for (const query of ["limit=0", "limit=101", "limit=x", "after=nobody"]) {
    const error = await errorOf(await client.get(`${DELIVERIES}?${query}`));
    expect(error).toMatchObject({ status: 400, param: query.split("=")[0] });
  }
});

test("a delivery shows its attempts, and can be replayed", async () => {
  const client = await owner();
  const job = await cancelJob(client, { webhook: { url } });
  const id = `${job.replace("job_", "msg_")}-job`;
  const attempt = { attempt: 1, at: 5, status: 500, error: null, duration_ms: 12 };
  const { deliveries } = webhooks;
  await deliveries.recordAttempt(client.tenant, { id, round: 1 }, attempt, "failed", null);
  const path = `${DELIVERIES}/${id}`;
  const failed = { state: "failed", next_attempt_at: null, attempts: [attempt] };
  expect(await (await client.get(path)).json()).toMatchObject(failed);

  const reply = await client.post(`${path}/replay`);
  expect(reply.status).toBe(202);
  expect(await reply.json()).toMatchObject({ id, state: "pending", attempts: [attempt] });
  expect(await deliveries.get(client.tenant, id)).toMatchObject({ round: 2 });
  // The result of an attempt before the replay no longer changes the state.
  await deliveries.recordAttempt(client.tenant, { id, round: 1 }, attempt, "failed", null);
  expect(await (await client.get(path)).json()).toMatchObject({ state: "pending" });
});

test("webhooks of a deleted job are not kept in the deliveries or the inbox, and not sent", async () => {
  const client = await owner();
  await createEndpoint(client);
  const [deletedJob, remainingJob] = [
    await cancelJob(client, { webhook: { url } }),
    await cancelJob(client),
  ];
  expect((await client.send(`/v1/jobs/${deletedJob}`, "DELETE")).status).toBe(200);
  const { data } = await list<WebhookDelivery>(client, DELIVERIES);
  expect(data.map(({ job }) => job)).toEqual([remainingJob]);
  const id = `${deletedJob.replace("job_", "msg_")}-job`;
  expect(await webhooks.deliveries.body(client.tenant, id)).toBeNull();
  expect((await client.get(`${DELIVERIES}/${id}`)).status).toBe(404);
  expect(await webhooks.inbox.read(client.tenant, 0, 9)).toMatchObject([{ seq: 2 }]);
});

test("an endpoint says since when its attempts fail, until one succeeds", async () => {
  const client = await owner();
  const { id } = await createEndpoint(client);
  const since = async () =>
    (await list<WebhookEndpoint>(client, ENDPOINTS)).data.map((each) => each.failing_since);
  for (const nowMs of [5_000, 9_000]) {
    await webhooks.endpoints.recordFailure(client.tenant, id, nowMs);
  }
  expect(await since()).toEqual([5]);
  const read = await client.get(`${ENDPOINTS}/${id}`);
  expect(await read.json()).toMatchObject({ enabled: true, failing_since: 5 });
  await webhooks.endpoints.recordSuccess(client.tenant, id);
  expect(await since()).toEqual([null]);
});

test("a test is sent to one endpoint, and never to a disabled one", async () => {
  const client = await owner();
  const { id } = await createEndpoint(client, { events: ["job.failed"] });
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
    expect(error.message).toContain("disabled by its owner");
  }
});

test("another tenant's endpoints and deliveries are not found", async () => {
  const [mine, stranger] = [await owner(), await owner()];
  const { id } = await createEndpoint(mine);
  const job = await cancelJob(mine);
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
  expect((await list(stranger, ENDPOINTS)).data).toEqual([]);
  expect((await list(stranger, DELIVERIES)).data).toEqual([]);
  expect((await mine.get(endpoint)).status).toBe(200);
});

test("a key without the scope admin may read endpoints and replay deliveries, and change neither endpoints nor signing keys", async () => {
  const admin = await owner();
  const { id } = await createEndpoint(admin);
  const job = await cancelJob(admin);
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
