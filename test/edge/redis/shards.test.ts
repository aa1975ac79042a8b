/** An edge on Cloudflare with two shards, of which the first does not answer or both do. */
import { Redis } from "ioredis";
import { afterAll, expect, test } from "vitest";
import { createApp } from "../../../edge/app.ts";
import { HubLogs } from "../../../edge/redis/hub-client.ts";
import { Hub } from "../../../edge/redis/hub.ts";
import { envsOfShards, type RequestShards } from "../../../edge/redis/request-shards.ts";
import { RequestStores } from "../../../edge/redis/stores.ts";
import { parseEnv } from "../../../edge/runtime/env.ts";
import { allRunningJobs, requireUsableShard } from "../../../edge/requests/all-shards.ts";
import type { Log } from "../../../edge/runtime/log.ts";
import type { Job } from "../../../shared/api/jobs.ts";
import type { Ticket } from "../../../shared/api/tickets.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { API_KEYS_KEY, MODELS_KEY, SHARD_KEY } from "../../../shared/redis/keys.ts";
import { pausedModels, pauseModel } from "../../../shared/workers/model-pauses.ts";
import { sendHeartbeat } from "../../../shared/workers/registry.ts";
import { card, errorOf, newTenant, play, redis, redisUrl } from "../harness.ts";

/** An edge with these shards. */
function edgeOf(urls: readonly string[], log: Log = () => {}) {
  const env = parseEnv({ REDIS_URL: redisUrl, REDIS_TIMEOUT_MS: 500 });
  // Not parsed: databases of one server are refused, because they share its channels.
  const envs = envsOfShards({ ...env, REDIS_URL: urls.join(" ") });
  const hubs = {
    getByName: (name: string) => {
      hubNames.push(name);
      const hub = new Hub({ ...env, REDIS_URL: urls.join(" ") });
      return { fetch: async (url: string) => hub.fetch(new Request(url)) };
    },
  } as unknown as DurableObjectNamespace;
  return createApp({
    openStores: (n) => new RequestStores(envs[n]!, new HubLogs(hubs, 1, undefined, n), null, n),
    shardCount: envs.length,
    deadlineSeconds: 60,
    webhookAllow: [],
    log,
  });
}

const SILENT = "redis://127.0.0.1:1";
const hubNames: string[] = [];
const app = edgeOf([SILENT, redisUrl]);

/** Databases that no other tests use stand for the Redis of two shards. */
const urls = [14, 15].map((db) => `${redisUrl}/${db}`);
const databases = urls.map((url) => new Redis(url));
afterAll(() => Promise.all(databases.map((each) => each.flushdb().then(() => each.disconnect()))));

const NO_THROUGHPUT = {
  slots: 4,
  busy: 0,
  tokensPerSecond: 0,
  tokensMean: 0,
  costShare: 1,
  tokensVariation: 1,
};

test("the key and the ticket of a tenant lead its requests and streams to its shard", async () => {
  // The model becomes known.
  await newTenant();
  const { key } = await new KeyRegistry(redis, 1).create("test");
  expect(key).toMatch(/^tt1_/);
  const headers = { authorization: `Bearer ${key}` };
  const post = (path: string, fields: object) =>
    app.request(path, { method: "POST", headers, body: JSON.stringify(fields) });
  const submitted = await post("/v1/jobs", { model: card.id, prompt: "Hi" });
  expect(submitted.status).toBe(202);
  const { id } = await submitted.json<Job>();
  const made = await post(`/v1/jobs/${id}/tickets`, { action: "stream" });
  const ticket = await made.json<Ticket>();
  expect(ticket.ticket).toMatch(/^tk1_/);
  const stream = await app.request(ticket.url);
  await play(id, ["a"]);
  expect(await stream.text()).toContain("event: succeeded");
  expect(hubNames).toEqual(["1:0"]);
});

test("a tenant of a shard that does not answer gets 503, and the edge is ready", async () => {
  const reply = await app.request("/v1/jobs", { headers: { authorization: "Bearer tt_first" } });
  expect(await errorOf(reply)).toMatchObject({ status: 503, code: "queue_unavailable" });
  expect((await edgeOf([SILENT, urls[1]!]).request("/readyz")).status).toBe(200);
});

test("a shard that never answers does not hold the answer of /readyz", async () => {
  const storesOf = (reply: Promise<object>) =>
    ({
      readiness: { listProblems: () => reply, requireWritable: () => reply },
    }) as unknown as RequestStores;
  const right = storesOf(Promise.resolve({ order: null, length: null }));
  const all = [storesOf(new Promise(() => {})), right];
  const usable = requireUsableShard({ all: () => all } as RequestShards, () => {});
  await expect(usable).resolves.toBeUndefined();
});

test("the public keys of a tenant are read from the shard that their URL names, and no other", async () => {
  const { key, tenant } = await new KeyRegistry(redis, 1).create("test");
  const headers = { authorization: `Bearer ${key}` };
  const listed = await app.request("/v1/webhook_keys", { headers });
  const { jwks_url } = await listed.json<{ jwks_url: string }>();
  expect(jwks_url).toContain(`?tenant=${tenant}&shard=1`);
  // The first shard is silent. Known and unknown tenants get the same status.
  expect((await app.request(jwks_url)).status).toBe(200);
  expect((await app.request(jwks_url.replace(tenant, "unknown"))).status).toBe(200);
  expect((await app.request(jwks_url.replace("&shard=1", ""))).status).toBe(503);
  const reply = await app.request(jwks_url.replace("&shard=1", "&shard=2"));
  expect(await errorOf(reply)).toMatchObject({ status: 400, param: "shard" });
});

test("with Redis in a wrong order the edge is not ready, and the log says which", async () => {
  const [first, second] = databases;
  await first!.sadd(API_KEYS_KEY, "key_a");
  await second!.hset(SHARD_KEY, "number", 1);
  const logged: string[] = [];
  const log: Log = ({ event }) => void logged.push(event);
  expect((await edgeOf(urls, log).request("/readyz")).status).toBe(200);
  const swapped = edgeOf(urls.toReversed(), log);
  expect((await swapped.request("/readyz")).status).toBe(503);
  await swapped.request("/readyz");
  const refusals = logged.filter((event) => event.startsWith("URL ")).map((e) => e.split(":")[0]);
  expect(refusals).toHaveLength(2);
  expect(new Set(refusals)).toEqual(
    new Set([
      "URL 1 of REDIS_URL leads to the Redis that was URL 2",
      "URL 2 of REDIS_URL leads to the Redis that was URL 1",
    ]),
  );
});

test("an edge whose list lacks a shard with tenants serves the others, and the log says so", async () => {
  await databases[0]!.hset(SHARD_KEY, "count", 3);
  const logged: string[] = [];
  const edge = edgeOf(urls, ({ event }) => void logged.push(event));
  expect((await edge.request("/readyz")).status).toBe(200);
  expect(logged).toContainEqual(expect.stringContaining("REDIS_URL has 2 of 3 URLs "));
  await databases[0]!.hdel(SHARD_KEY, "count");
});

test("the operator sees what is known on one shard alone", async () => {
  const [first, second] = databases;
  const grant = { scopes: ["operator" as const], limits: {} };
  const { key } = await new KeyRegistry(first!).create("operator", "operator", grant);
  const edge = edgeOf(urls);
  const request = async (path: string, method = "GET") => {
    const headers = { authorization: `Bearer ${key}` };
    const reply = await edge.request(`/v1/operator/${path}`, { method, headers });
    return { status: reply.status, body: await reply.json<{ data: object[] }>() };
  };
  // As a pause whose request has failed halfway: the shard that refused it does not know it.
  await pauseModel(second!, "org/half");
  expect((await request("models")).body.data).toMatchObject([{ id: "org/half", status: "paused" }]);
  expect(await request("models/org/half/resume", "POST")).toMatchObject({ status: 200 });
  expect((await request("models")).body.data).toEqual([]);
  // A worker that has not reached the operator's shard yet.
  const report = { version: "0.1.0", throughput: NO_THROUGHPUT, models: [] };
  await sendHeartbeat(second!, "worker_s", report, []);
  expect((await request("workers")).body.data).toMatchObject([{ id: "worker_s" }]);
  const drained = await request("workers/worker_s/drain", "POST");
  expect(drained).toMatchObject({ status: 200, body: { draining: true } });
});

test("a pause that a shard does not take is an error, and a repetition completes it", async () => {
  const grant = { scopes: ["operator" as const], limits: {} };
  const { key } = await new KeyRegistry(databases[1]!, 1).create("operator", "operator", grant);
  await databases[1]!.hset(MODELS_KEY, card.id, JSON.stringify(card));
  const pause = (...both: string[]) =>
    edgeOf(both).request(`/v1/operator/models/${card.id}/pause`, {
      method: "POST",
      headers: { authorization: `Bearer ${key}` },
    });
  expect((await pause(SILENT, urls[1]!)).status).toBe(503);
  expect((await pause(...urls)).status).toBe(200);
  for (const each of databases) expect([...(await pausedModels(each)).keys()]).toEqual([card.id]);
});

test("of more running jobs than a list has, each shard's are in it", async () => {
  const ofShard = (name: string) => ({
    runningJobs: async () => ({ jobs: Array.from({ length: 200 }, () => name), more: 1 }),
  });
  const shards = { all: () => ["a", "b"].map(ofShard) } as unknown as RequestShards;
  const { jobs, more } = await allRunningJobs(shards);
  const names = jobs as unknown as string[];
  expect(["a", "b"].map((name) => names.filter((job) => job === name).length)).toEqual([100, 100]);
  expect(more).toBe(202);
});
