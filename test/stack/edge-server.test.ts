/** The HTTP server of the self-hosted edge: what it refuses, how it limits slow clients, and how it ends. */
import { once } from "node:events";
import { Agent, request as httpRequest, type IncomingMessage } from "node:http";
import { expect, onTestFinished, test } from "vitest";
import { startEdge, type EdgeProcess } from "../../infra/stack/edge.ts";
import { JobClient } from "../../infra/cli/job-client.ts";
import { JobStore } from "../../shared/jobs/store.ts";
import { MODELS_KEY } from "../../shared/redis/keys.ts";
import type { ModelCard } from "../../shared/workers/model-card.ts";
import { claimJob } from "../support/claim.ts";
import { openRaw, parseReply, sendRaw } from "../support/raw-http.ts";
import { countingFrom, DEADLINE_MS, EventReader, seqOf, useStack } from "./stack.ts";

const stack = useStack(null);

const CARD: ModelCard = {
  id: "demo",
  description: "A model without a worker",
  createdAtMs: 0,
  contextTokens: 2_048,
  vocabSize: 1_000,
  tokenBytesMax: null,
  alphaDefault: 1,
  alphaMax: 2,
  base: "base",
  fingerprint: "weights",
  reproducible: true,
};
const JOB = { model: CARD.id, messages: [{ role: "user" as const, content: "Hello" }] };

async function ownEdge(env: Readonly<Record<string, string>>): Promise<EdgeProcess> {
  const edge = await startEdge({ redisUrl: stack.redisServer.url, env });
  onTestFinished(() => edge.stop());
  return edge;
}

test.for([
  ["localhost", "POST /cdn-cgi/explorer/api/local/observability/query", ""],
  ["127.0.0.1:8787", "GET /cdn-cgi/explorer/", ""],
  ["localhost", "POST /cdn-cgi/handler/scheduled", ""],
  ["localhost", "GET /nothing", "MF-Original-URL: http://localhost/healthz\r\n"],
  ["localhost", "GET /nothing", "MF-Route-Override: trimtab\r\nMF-CF-Blob: {bad\r\n"],
] as const)("with Host: %s, %s is an unknown path", async ([host, target, headers]) => {
  const reply = await sendRaw(
    stack.edge.url,
    `${target} HTTP/1.1\r\nHost: ${host}\r\n${headers}Content-Length: 0\r\nConnection: close\r\n\r\n`,
  );
  expect(reply.status).toBe(404);
  expect(JSON.parse(reply.body)).toMatchObject({ error: { code: "not_found" } });
});

const CLOSE = "Connection: close\r\n\r\n";

test.for([
  [400, "a target without a path", `GET * HTTP/1.1\r\nHost: a\r\n${CLOSE}`],
  [400, "a Host with a space", `GET /healthz HTTP/1.1\r\nHost: a b\r\n${CLOSE}`],
  [400, "two Hosts", `GET /healthz HTTP/1.1\r\nHost: a\r\nhost: b\r\n${CLOSE}`],
  [400, "a Host with a path", `GET /healthz HTTP/1.1\r\nHost: a/b\r\n${CLOSE}`],
  [400, "a Host with a user", `GET /healthz HTTP/1.1\r\nHost: a@b\r\n${CLOSE}`],
  [400, "a Host that is half an address", `GET /healthz HTTP/1.1\r\nHost: [::\r\n${CLOSE}`],
  [400, "a request line that is none", `hello\r\n\r\n`],
  [400, "the start of HTTP/2", `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`],
  [405, "CONNECT", `CONNECT example.com:443 HTTP/1.1\r\nHost: a\r\n\r\n`],
  [405, "TRACE", `TRACE /healthz HTTP/1.1\r\nHost: a\r\n${CLOSE}`],
  [431, "headers that are too long", `GET /healthz HTTP/1.1\r\nX: ${"x".repeat(20_000)}\r\n\r\n`],
] as const)("%i for %s, as JSON without internals", async ([status, , request]) => {
  const reply = await sendRaw(stack.edge.url, request);
  expect(reply.status).toBe(status);
  expect(reply.headers).toMatch(/content-type: application\/problem\+json/i);
  expect(JSON.parse(reply.body)).toMatchObject({ status, error: { message: expect.any(String) } });
  expect(reply.body).not.toMatch(/node:|\.ts|\bat /);
  expect((await fetch(`${stack.edge.url}/healthz`)).status).toBe(200);
});

test("a WebSocket is refused with the way that works, and its connection serves other requests", async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const { hostname: host, port } = new URL(stack.edge.url);
  const get = async (path: string, headers: Readonly<Record<string, string>>) => {
    const sent = httpRequest({ agent, host, port, path, headers });
    const [reply] = (await once(sent.end(), "response")) as [IncomingMessage];
    const body = (await reply.toArray()).join("");
    return { status: reply.statusCode, allow: reply.headers.allow, body };
  };
  const refused = await get("/v1/responses", {
    authorization: `Bearer ${stack.key.key}`,
    connection: "Upgrade",
    upgrade: "websocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    "sec-websocket-version": "13",
  });
  expect(refused).toMatchObject({ status: 405, allow: "POST" });
  expect(refused.body).toMatch(/WebSockets are not supported: .*server-sent events/);
  expect(await get("/healthz", {})).toMatchObject({ status: 200 });
});

const submission = (headers: string) =>
  `POST /v1/jobs HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer ${stack.key.key}\r\n${headers}\r\n\r\n`;

test("a malformed chunk ends its request only, and is no error of the server", async () => {
  const edge = await ownEdge({});
  const head = submission("Transfer-Encoding: chunked");
  expect((await sendRaw(edge.url, `${head}2\r\n{"\r\nzz\r\n`)).status).toBe(400);
  expect((await fetch(`${edge.url}/healthz`)).status).toBe(200);
  expect(edge.child.output).not.toContain('"level":50');
});

test("bodies that do not arrive hold no connection to Redis, and end with 408", async () => {
  const edge = await ownEdge({ REQUEST_TIMEOUT_SECONDS: "2", HEADERS_TIMEOUT_SECONDS: "1" });
  const before = await redisConnections();
  const half = Array.from({ length: 100 }, () => {
    const connection = openRaw(edge.url);
    connection.write(`${submission("Content-Length: 1000")}{"model":`);
    return connection;
  });
  expect((await fetch(`${edge.url}/readyz`)).status).toBe(200);
  expect(await redisConnections()).toBe(before);
  for (const { closed } of half) expect(parseReply(await closed).status).toBe(408);
  const headers = await sendRaw(edge.url, "GET /healthz HTTP/1.1\r\nHost: a\r\nX-Slow: ");
  expect(headers.status).toBe(408);
  expect(JSON.parse(headers.body)).toMatchObject({ status: 408 });
});

test("an address has at most as many connections as configured, and gets another when one ends", async () => {
  const edge = await ownEdge({ CONNECTIONS_PER_ADDRESS_MAX: "2", DRAIN_SECONDS: "0" });
  const agent = new Agent({ keepAlive: false });
  // The connection of the readiness check is kept by the client until it notices that it may not be.
  await expect
    .poll(() => statusOf(get(`${edge.url}/healthz`, agent)), { timeout: DEADLINE_MS })
    .toBe(200);
  const held = [openRaw(edge.url), openRaw(edge.url)];
  for (const connection of held) connection.write("GET /healthz HTTP/1.1\r\nHost: a\r\n");
  await expect.poll(() => statusOf(get(`${edge.url}/healthz`, agent))).toBe("refused");
  for (const connection of held) connection.close();
  await expect.poll(() => statusOf(get(`${edge.url}/healthz`, agent))).toBe(200);
});

test("on SIGTERM running requests end, streams are cut after an event and can be resumed, no job is cancelled", async () => {
  const edge = await ownEdge({ DRAIN_SECONDS: "2" });
  const client = new JobClient(edge.url, stack.key.key);
  const { id, append } = await runningJob();
  await append(0);
  const reader = new EventReader(client, id);
  const body = JSON.stringify({ ...JOB, stream: true });
  const headers = { "cancel-on-disconnect": "true" };
  const chat = await client.request("/v1/chat/completions", { method: "POST", headers, body });
  const chatJob = chat.headers.get("x-trimtab-job-id")!;
  await reader.hasTokens(1);
  const waiting = client.request(`/v1/jobs/${id}`, { headers: { prefer: "wait=1" } });
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  expect(await statusOf(get(`${edge.url}/readyz`, agent))).toBe(200);

  edge.child.kill("SIGTERM");
  // An idle connection is closed at once, and no new one is accepted.
  await expect.poll(() => statusOf(get(`${edge.url}/readyz`, agent))).toBe("refused");
  expect((await waiting).status).toBe(200);
  await append(1);
  await reader.hasTokens(2);
  await expect(reader.ended).rejects.toThrow("terminated");
  expect(await edge.child.exited).toEqual({ code: 0, signal: null });

  const resumed = new EventReader(stack.client, id, reader.events.length);
  await append(2);
  await resumed.hasTokens(1);
  const events = [...reader.events, ...resumed.events];
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect((await stack.client.read(chatJob)).state).toBe("queued");
  await stack.client.cancel(chatJob);
  await stack.client.cancel(id);
});

test("links to the API begin with PUBLIC_URL", async () => {
  const edge = await ownEdge({ PUBLIC_URL: "https://api.example.com" });
  const client = new JobClient(edge.url, stack.key.key);
  const keys = (await (await client.request("/v1/webhook_keys")).json()) as { jwks_url: string };
  expect(keys.jwks_url).toMatch(/^https:\/\/api\.example\.com\/\.well-known\/jwks\.json\?/);
});

/** A job that the test plays the worker of: no worker runs. */
async function runningJob() {
  await stack.redis.hset(MODELS_KEY, CARD.id, JSON.stringify(CARD));
  const store = new JobStore(stack.redis, 60_000);
  const { id } = await stack.client.submit(JOB);
  const { attempt } = await claimJob(stack.redis, id);
  const append = (at: number) => store.appendTokens(id, attempt, at, { ids: [at + 1], text: "a" });
  return { id, append };
}

async function redisConnections(): Promise<number> {
  return Number(/connected_clients:(\d+)/.exec(await stack.redis.info("clients"))?.[1]);
}

/** Reads a reply over the connections of an agent. */
async function get(url: string, agent: Agent): Promise<IncomingMessage> {
  const request = httpRequest(url, { agent }).end();
  const [reply] = (await once(request, "response")) as [IncomingMessage];
  reply.resume();
  await once(reply, "end");
  return reply;
}

function statusOf(reply: Promise<IncomingMessage>): Promise<number | "refused"> {
  return reply.then(
    ({ statusCode }) => statusCode ?? 0,
    () => "refused",
  );
}
