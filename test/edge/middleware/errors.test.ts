/** Which errors get which replies: a failure of Redis or the bucket gets 503 within the timeout, a bug gets 500. */
import { beforeEach, expect, inject, test, vi } from "vitest";
import { createApp } from "../../../edge/app.ts";
import type { LogReader } from "../../../edge/redis/follow.ts";
import { HubLogs } from "../../../edge/redis/hub-client.ts";
import { RequestStores } from "../../../edge/redis/stores.ts";
import { parseEnv } from "../../../edge/runtime/env.ts";
import type { LogLine } from "../../../edge/runtime/log.ts";
import type { ErrorBody } from "../../../shared/api/errors.ts";
import { FileStore } from "../../../shared/files/store.ts";
import { newId } from "../../../shared/ids.ts";
import { jobKey } from "../../../shared/redis/keys.ts";
import { card, errorOf, newTenant, redis, redisUrl, send, sse, type Client } from "../harness.ts";

const log = vi.fn<(entry: LogLine) => void>();
const close = vi.spyOn(RequestStores.prototype, "close");
beforeEach(() => {
  log.mockClear();
  close.mockClear();
});

/** An edge that uses the Redis at the URL. The one that answers may need its time on a busy machine. */
function edgeOn(url: string, variables: object = {}, sharedLogs: LogReader | null = null) {
  const timeoutMs = url === redisUrl ? 5_000 : 200;
  const env = parseEnv({ REDIS_URL: url, REDIS_TIMEOUT_MS: timeoutMs, ...variables });
  return createApp({
    openStores: () => new RequestStores(env, sharedLogs),
    deadlineSeconds: 60,
    webhookAllow: [],
    log,
  });
}

const key = { authorization: "Bearer tt_key" };
const json = { ...key, "content-type": "application/json" };

test.each([
  ["refuses connections", () => "redis://127.0.0.1:1"],
  ["accepts connections and never answers", () => inject("silentUrl")],
  ["has an unknown host name", () => "redis://redis.invalid:6379"],
  ["refuses the password", () => redisUrl.replace("//", "//nobody:wrong@")],
])("with a Redis that %s, the reply is 503 within the timeout", async (_, url) => {
  const edge = edgeOn(url());
  const began = Date.now();
  const replies = await Promise.all([
    edge.request("/readyz"),
    edge.request("/v1/models", { headers: key }),
    edge.request("/v1/jobs", { method: "POST", headers: json, body: "{}" }),
    edge.request("/v1/jobs/job_x/events", { headers: key }),
  ]);
  expect(Date.now() - began).toBeLessThan(2_000);
  for (const reply of replies) {
    expect(reply.headers.get("retry-after")).toBe("2");
    expect(reply.headers.get("x-should-retry")).toBe("true");
    expect(await errorOf(reply)).toMatchObject({ status: 503, code: "queue_unavailable" });
  }
  expect(close).toHaveBeenCalledTimes(4);
});

test.each([
  ["a chat", "/v1/chat/completions", undefined],
  ["an event", "/v1/jobs/:id/events?after=1", "error"],
])(
  "%s stream whose connection breaks ends with an error, and its stores are closed",
  async (_, path, event) => {
    const client = await newTenant();
    const { id } = await client.submit();
    close.mockClear();
    const hub = { fetch: () => Promise.reject(new Error("Network connection lost.")) };
    const hubs = { getByName: () => hub } as unknown as DurableObjectNamespace;
    const edge = edgeOn(redisUrl, {}, new HubLogs(hubs, 1));
    const chat = { model: card.id, stream: true, messages: [{ role: "user", content: "Hi" }] };
    const authorization = `Bearer ${client.key}`;
    const reply = path.includes("chat")
      ? await edge.request(path, {
          method: "POST",
          headers: { authorization, "content-type": "application/json" },
          body: JSON.stringify(chat),
        })
      : await edge.request(path.replace(":id", id), { headers: { authorization } });
    const last = (await Array.fromAsync(sse(reply))).at(-1);
    expect(last).toMatchObject({ id: undefined, event });
    expect(JSON.parse(last!.data)).toMatchObject({ error: { code: "queue_unavailable" } });
    expect(close).toHaveBeenCalledOnce();
    expect(log).toHaveBeenCalledOnce();
  },
);

test("the message of a Redis error is in the log, but not in the reply", async () => {
  const reply = await edgeOn("redis://:hunter2@127.0.0.1:1").request("/readyz");
  const { error } = await reply.json<ErrorBody>();
  expect(error.message).toBe("The queue does not answer; try again");
  expect(log).toHaveBeenCalledExactlyOnceWith(
    expect.objectContaining({ event: "queue_unavailable", requestId: error.request_id }),
  );
});

test("/healthz is 200 without Redis", async () => {
  const reply = await edgeOn("redis://127.0.0.1:1").request("/healthz");
  expect(reply.status).toBe(200);
});

test("/readyz is 200 with Redis, and needs no key", async () => {
  const reply = await send("/readyz");
  expect(await reply.json()).toEqual({ status: "ok" });
});

test("a bug gets 500, without details in the reply", async () => {
  const openStores = () => {
    throw new Error("secret detail");
  };
  const edge = createApp({ openStores, deadlineSeconds: 60, webhookAllow: [], log });
  const reply = await edge.request("/readyz");
  const error = await errorOf(reply);
  expect(error).toMatchObject({ status: 500, code: "internal" });
  expect(JSON.stringify(error)).not.toContain("secret");
  expect(log).toHaveBeenCalledOnce();
});

test("a command that Redis rejects as wrong counts as a bug, not as a failure of Redis", async () => {
  const client = await newTenant();
  const id = newId("job");
  await redis.set(jobKey(id), "no hash");
  const reply = await edgeOn(redisUrl).request(`/v1/jobs/${id}`, { headers: headersOf(client) });
  expect(await errorOf(reply)).toMatchObject({ status: 500, code: "internal" });
  expect(log).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ event: "internal" }));
});

/** A file whose content is in a bucket. */
async function fileInBucket({ tenant }: Client): Promise<string> {
  const id = newId("file");
  const nowMs = Date.now();
  await new FileStore(redis, null).save(tenant, {
    id,
    name: "in.jsonl",
    purpose: "batch_output",
    bytes: 10,
    createdAtMs: nowMs,
    expiresAtMs: nowMs + 60_000,
    place: "bucket",
  });
  return id;
}

const headersOf = ({ key }: Client) => ({ authorization: `Bearer ${key}` });

test("a bucket that cannot be reached gets storage_unavailable, not queue_unavailable", async () => {
  const client = await newTenant();
  const id = await fileInBucket(client);
  const edge = edgeOn(redisUrl, { FILES_S3_ENDPOINT: "http://127.0.0.1:1/files" });
  const headers = headersOf(client);
  const replies = [
    await edge.request(`/v1/files/${id}/content`, { headers }),
    await edge.request(`/v1/files/${id}`, { method: "DELETE", headers }),
  ];
  for (const reply of replies) {
    expect(reply.headers.get("x-should-retry")).toBe("true");
    expect(await errorOf(reply)).toMatchObject({
      status: 503,
      code: "storage_unavailable",
      message: "The file storage does not answer; try again",
    });
  }
  expect(log).toHaveBeenCalledTimes(2);
});

test("a file in a bucket that is not configured gets an internal error, and the log has the reason", async () => {
  const client = await newTenant();
  const id = await fileInBucket(client);
  const reply = await edgeOn(redisUrl).request(`/v1/files/${id}/content`, {
    headers: headersOf(client),
  });
  expect(await errorOf(reply)).toMatchObject({ status: 500, code: "internal" });
  const [{ error }] = log.mock.lastCall!;
  expect((error as Error).cause).toMatchObject({
    message: `File ${id} is stored in a bucket, but FILES_S3_ENDPOINT is not set`,
  });
});
