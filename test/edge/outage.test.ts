/** When Redis does not answer: a prompt 503, whatever the way in which it fails. */
import { beforeEach, expect, inject, test, vi } from "vitest";
import { createApp } from "../../edge/app.ts";
import { RedisBackend } from "../../edge/backend-redis.ts";
import { parseEnv } from "../../edge/env.ts";
import type { LogEntry } from "../../edge/log.ts";
import { AppError, type ErrorBody } from "../../shared/errors.ts";
import { card, errorOf, followers, newTenant, redisUrl, send, sse } from "./harness.ts";

const log = vi.fn<(entry: LogEntry) => void>();
const close = vi.spyOn(RedisBackend.prototype, "close");
beforeEach(() => {
  log.mockClear();
  close.mockClear();
});

/** An edge whose Redis is at the URL. */
function edgeOn(url: string) {
  const env = parseEnv({ REDIS_URL: url, REDIS_TIMEOUT_MS: 200 });
  return createApp({
    openBackend: () => new RedisBackend(env, followers),
    deadlineSeconds: 60,
    webhookAllow: [],
    log,
  });
}

const key = { authorization: "Bearer tt_key" };
const json = { ...key, "content-type": "application/json" };

test.each([
  ["refuses connections", () => "redis://127.0.0.1:1"],
  ["accepts them and says nothing", () => inject("silentUrl")],
  ["has no such name", () => "redis://redis.invalid:6379"],
  ["wants another password", () => redisUrl.replace("//", "//nobody:wrong@")],
])("a Redis that %s is a 503 within the timeout", async (_, url) => {
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
])("%s stream that cannot go on ends with an error and closes", async (_, path, event) => {
  const client = await newTenant();
  const { id } = await client.submit();
  close.mockClear();
  const edge = edgeOn(redisUrl);
  vi.spyOn(RedisBackend.prototype, "follow").mockImplementationOnce(async function* () {
    yield* [];
    throw new AppError("queue_unavailable", "Gone", { cause: new Error("Connection is closed.") });
  });
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
});

test("what Redis said goes to the log and not to the caller", async () => {
  const reply = await edgeOn("redis://:hunter2@127.0.0.1:1").request("/readyz");
  const { error } = await reply.json<ErrorBody>();
  expect(error.message).toBe("The queue does not answer; try again");
  expect(log).toHaveBeenCalledExactlyOnceWith(
    expect.objectContaining({ event: "queue_unavailable", requestId: error.request_id }),
  );
});

test("the Worker is alive without Redis", async () => {
  const reply = await edgeOn("redis://127.0.0.1:1").request("/healthz");
  expect(reply.status).toBe(200);
});

test("it is ready with Redis, and needs no key to say so", async () => {
  const reply = await send("/readyz");
  expect(await reply.json()).toEqual({ status: "ok" });
});

test("a bug is a 500 that tells nothing", async () => {
  const openBackend = () => {
    throw new Error("secret detail");
  };
  const edge = createApp({ openBackend, deadlineSeconds: 60, webhookAllow: [], log });
  const reply = await edge.request("/readyz");
  const error = await errorOf(reply);
  expect(error).toMatchObject({ status: 500, code: "internal" });
  expect(JSON.stringify(error)).not.toContain("secret");
  expect(log).toHaveBeenCalledOnce();
});

test("a bad binding is named, and its value is not", () => {
  const bad = () => parseEnv({ REDIS_URL: "http://secret", REDIS_TIMEOUT_MS: "soon" });
  expect(bad).toThrow("Missing or invalid variables: REDIS_URL, REDIS_TIMEOUT_MS");
  expect(() => parseEnv({})).toThrow("REDIS_URL");
  expect(parseEnv({ REDIS_URL: "rediss://host:1", REDIS_TIMEOUT_MS: "250" })).toMatchObject({
    REDIS_URL: "rediss://host:1",
    REDIS_TIMEOUT_MS: 250,
    RESULT_TTL_SECONDS: 86_400,
    JOB_DEADLINE_SECONDS: 86_400,
    STREAM_HEARTBEAT_SECONDS: 15,
    WEBHOOK_ALLOW: [],
    FILES_S3_REGION: "auto",
    FILES_S3_ACCESS_KEY_ID: "",
    FILES_S3_SECRET_ACCESS_KEY: "",
  });
});
