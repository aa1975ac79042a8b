/** An edge on Cloudflare with two shards, of which the first does not answer. */
import { expect, test } from "vitest";
import { createApp } from "../../../edge/app.ts";
import { HubLogs } from "../../../edge/redis/hub-client.ts";
import { Hub } from "../../../edge/redis/hub.ts";
import { envsOfShards } from "../../../edge/redis/request-shards.ts";
import { RequestStores } from "../../../edge/redis/stores.ts";
import { parseEnv } from "../../../edge/runtime/env.ts";
import type { Job } from "../../../shared/api/jobs.ts";
import type { Ticket } from "../../../shared/api/tickets.ts";
import { KeyRegistry } from "../../../shared/keys/registry.ts";
import { card, errorOf, newTenant, play, redis, redisUrl } from "../harness.ts";

const both = parseEnv({ REDIS_URL: `redis://127.0.0.1:1 ${redisUrl}`, REDIS_TIMEOUT_MS: 500 });
const envs = envsOfShards(both);
const hubNames: string[] = [];
const hubs = {
  getByName: (name: string) => {
    hubNames.push(name);
    const hub = new Hub(both);
    return { fetch: async (url: string) => hub.fetch(new Request(url)) };
  },
} as unknown as DurableObjectNamespace;
const app = createApp({
  openStores: (n) => new RequestStores(envs[n]!, new HubLogs(hubs, 1, undefined, n), null, n),
  shardCount: 2,
  deadlineSeconds: 60,
  webhookAllow: [],
  log: () => {},
});

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
  expect((await app.request("/readyz")).status).toBe(200);
});

test("the public keys of a tenant are found on its shard, whichever that is", async () => {
  const { tenant } = await new KeyRegistry(redis, 1).create("test");
  const keysOf = (name: string) => app.request(`/.well-known/jwks.json?tenant=${name}`);
  expect((await keysOf(tenant)).status).toBe(200);
  // It may be a tenant of the other shard: no key is made up for it.
  expect((await keysOf("unknown")).status).toBe(503);
});
