/** Streams and waits end when the key of their request is revoked, loses the scope, or has a new secret. */
import { describe, expect, test } from "vitest";
import { createApp } from "../../../edge/app.ts";
import { HubLogs } from "../../../edge/redis/hub-client.ts";
import { Hub } from "../../../edge/redis/hub.ts";
import { RequestStores } from "../../../edge/redis/stores.ts";
import { parseEnv } from "../../../edge/runtime/env.ts";
import { log } from "../../../edge/runtime/log.ts";
import type { ErrorBody } from "../../../shared/api/errors.ts";
import type { Ticket } from "../../../shared/api/tickets.ts";
import { apiKeyKey, keyChannel } from "../../../shared/redis/keys.ts";
import { appendText, card, claim, Client, keys, newTenant, redis, redisUrl } from "../harness.ts";

type Reader = "hub" | "own connection";

interface Init {
  readonly method?: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
}

/** An edge whose streams are read from a hub or over their own connections. */
function edgeWith(reader: Reader, heartbeatSeconds: number) {
  const env = parseEnv({ REDIS_URL: redisUrl, STREAM_HEARTBEAT_SECONDS: heartbeatSeconds });
  const hub = new Hub(env);
  const fetch = async (url: string) => hub.fetch(new Request(url));
  const hubs = { getByName: () => ({ fetch }) } as unknown as DurableObjectNamespace;
  const logs = reader === "hub" ? new HubLogs(hubs, 1) : null;
  const openStores = () => new RequestStores(env, logs);
  const app = createApp({ openStores, deadlineSeconds: 60, webhookAllow: [], log });
  return async (key: string | null, path: string, init: Init = {}) => {
    const headers = { ...init.headers, ...(key !== null && { authorization: `Bearer ${key}` }) };
    return app.request(path, { ...init, headers });
  };
}

/** Longer than a test: with it a key is checked only when a change is announced. */
const NEVER_SECONDS = 300;

const revoked = { code: "invalid_api_key", message: expect.stringContaining("revoked") };

/** The error that a stream ends with: in an event of its own, or as the clients of OpenAI read it. */
async function lastError(reply: Response): Promise<ErrorBody["error"]> {
  expect(reply.status).toBe(200);
  const last = (await reply.text()).trimEnd().split("\n").at(-1)!;
  return (JSON.parse(last.replace("data: ", "")) as ErrorBody).error;
}

const body = (fields: object) => ({ method: "POST", body: JSON.stringify(fields) });
const CHAT = { model: card.id, messages: [{ role: "user", content: "Hi" }] };

describe.each<Reader>(["hub", "own connection"])("with a %s", (reader) => {
  const edge = edgeWith(reader, NEVER_SECONDS);

  test.each([
    ["events of a job", async ({ submit }: Fixture) => `/v1/jobs/${await submit()}/events`, {}],
    ["a chat", async () => "/v1/chat/completions", body({ ...CHAT, stream: true })],
    ["two choices", async () => "/v1/chat/completions", body({ ...CHAT, stream: true, n: 2 })],
    [
      "a response",
      async () => "/v1/responses",
      body({ model: card.id, input: "Hi", stream: true }),
    ],
    ["the inbox", async () => "/v1/webhook_inbox", {}],
  ])("a revoked key ends its stream: %s", async (_, path, init) => {
    const { key, keyId, submit } = await newFixture();
    const reply = await edge(key, await path({ key, keyId, submit }), init);
    const error = lastError(reply);
    await isWatched(keyId);
    await keys.revoke(keyId);
    expect(await error).toMatchObject(revoked);
    await expect.poll(() => watchers(keyId)).toBe(0);
  });

  test("a revoked key ends a stream whose job never pauses", async () => {
    const { key, keyId, submit } = await newFixture();
    const id = await submit();
    await claim(id);
    const error = lastError(await edge(key, `/v1/jobs/${id}/events`));
    await isWatched(keyId);
    const stopped = new AbortController();
    const run = async () => {
      while (!stopped.signal.aborted) await appendText(id, 1, "a");
    };
    const running = run();
    await keys.revoke(keyId);
    expect(await error).toMatchObject(revoked);
    stopped.abort();
    await running;
  });

  test("a revoked key ends the streams of its tickets", async () => {
    const { key, keyId, submit } = await newFixture();
    const made = await edge(key, `/v1/jobs/${await submit()}/tickets`, body({ action: "stream" }));
    const { url } = await made.json<Ticket>();
    const error = lastError(await edge(null, url));
    await isWatched(keyId);
    await keys.revoke(keyId);
    expect(await error).toMatchObject(revoked);
  });

  test("a revoked key ends its waits with 401", async () => {
    const { key, keyId, submit } = await newFixture();
    const path = `/v1/jobs/${await submit()}`;
    const replies = [
      edge(key, path, { headers: { prefer: "wait=60" } }),
      edge(key, "/v1/chat/completions", body(CHAT)),
    ];
    await isWatched(keyId, reader === "hub" ? 1 : 2);
    await keys.revoke(keyId);
    for (const reply of await Promise.all(replies)) {
      expect([reply.status, reply.headers.get("www-authenticate")]).toEqual([
        401,
        'Bearer realm="trimtab"',
      ]);
      expect((await reply.json<ErrorBody>()).error).toMatchObject(revoked);
    }
  });

  test("when the overlap of a rotation ends, streams of the older secret end, and those of the newer go on", async () => {
    const { key, keyId, submit } = await newFixture();
    const path = `/v1/jobs/${await submit()}/events`;
    const old = lastError(await edge(key, path));
    await isWatched(keyId);
    const newKey = (await keys.rotate(keyId, 1))!;
    const reading = edge(newKey, path).then(lastError);
    expect(await old).toMatchObject(revoked);
    await expect.poll(() => watchers(keyId)).toBe(1);
    await keys.rotate(keyId, 0);
    expect(await reading).toMatchObject(revoked);
  });

  test("a change that was not announced is noticed after a heartbeat's interval", async () => {
    const { key, keyId, submit } = await newFixture();
    const error = edgeWith(reader, 0.1)(key, `/v1/jobs/${await submit()}/events`).then(lastError);
    await isWatched(keyId);
    await redis.hset(apiKeyKey(keyId), "scopes", '["jobs:write"]');
    expect(await error).toMatchObject({
      code: "permission_denied",
      message: expect.stringContaining("jobs:read"),
    });
  });
});

type Fixture = Awaited<ReturnType<typeof newFixture>>;

async function newFixture() {
  const { key, keyId, tenant } = await newTenant();
  const client = new Client(key, tenant, keyId);
  return { key, keyId, submit: async () => (await client.submit()).id };
}

async function watchers(keyId: string): Promise<number> {
  const [, count] = await redis.pubsub("NUMSUB", keyChannel(keyId));
  return Number(count);
}

/** Resolves when so many connections are subscribed to the channel of the key. */
async function isWatched(keyId: string, connections = 1): Promise<void> {
  await expect.poll(() => watchers(keyId)).toBe(connections);
}
