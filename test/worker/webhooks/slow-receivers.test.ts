/** Receivers and name servers that hang delay only the tenant that uses them, and cost little while they hang. */
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Queue, type Worker } from "bullmq";
import type { Redis } from "ioredis";
import { pino } from "pino";
import * as v from "valibot";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { startRedis, type RedisServer } from "../../../infra/stack/redis.ts";
import { newId } from "../../../shared/ids.ts";
import { DELIVERY_QUEUE, TAG } from "../../../shared/redis/keys.ts";
import { AddressList } from "../../../shared/webhooks/url.ts";
import { connectRedis } from "../../../worker/redis/connection.ts";
import { Metrics } from "../../../worker/telemetry/metrics.ts";
import { startDeliverer } from "../../../worker/webhooks/deliverer.ts";
import { HostResolver } from "../../../worker/webhooks/resolve-host.ts";
import { endedJob } from "../../support/job.ts";
import { startNameServer, type NameServer } from "../../support/name-server.ts";
import { startReceiver, type Receiver } from "../../support/receiver.ts";
import { Webhooks } from "../../support/webhooks.ts";

const log = pino({ level: "silent" });

let server: RedisServer;
let redis: Redis;
let queue: Queue;
let webhooks: Webhooks;
let deliverer: Worker;
let nameServer: NameServer;
let receiver: Receiver;
let flood: { readonly tenant: string; readonly requestOptions: object };

beforeAll(async () => {
  server = await startRedis();
  redis = connectRedis(server.url, log);
  queue = new Queue(DELIVERY_QUEUE, { connection: redis, prefix: TAG });
  webhooks = new Webhooks(redis, queue);
  receiver = await startReceiver(204);
  nameServer = await startNameServer((name) => (name === "answered.test" ? ["127.0.0.1"] : null));
  const resolver = new HostResolver([nameServer.address]);
  const allowed = v.parse(AddressList, "127.0.0.1");
  deliverer = startDeliverer({
    connection: redis,
    postOptions: { allowed, resolve: (name) => resolver.lookup(name) },
    log,
    metrics: new Metrics({ version: "1.2.3", commit: "" }),
    lockMs: 5_000,
  });
});

beforeEach(async () => {
  flood = { tenant: newId("tenant"), requestOptions: {} };
  await webhooks.signing.create(flood.tenant);
});

afterAll(async () => {
  await deliverer.close();
  await queue.close();
  redis.disconnect();
  nameServer.close();
  await receiver.stop();
  await server.stop();
});

/** Waits until another tenant has received a webhook at the URL, with the first attempt. */
async function receives(url: string): Promise<void> {
  const tenant = newId("tenant");
  await webhooks.signing.create(tenant);
  const job = endedJob({ webhook: { url, deliveries: [] } });
  await webhooks.publisher.publishJobEnd({ tenant, requestOptions: {} }, job);
  const id = `${job.id.replace("job_", "msg_")}-job`;
  await vi.waitUntil(
    async () => (await webhooks.deliveries.get(tenant, id))?.state === "delivered",
    10_000,
  );
  expect(await webhooks.deliveries.attempts(tenant, id)).toHaveLength(1);
}

test("deliveries to a receiver that hangs wait at no cost, delay no other tenant, and follow when it answers", async () => {
  const waiting: ServerResponse[] = [];
  let arrived = 0;
  let hangs = true;
  const hanging = createServer((_, response) => {
    arrived++;
    if (hangs) waiting.push(response);
    else response.writeHead(204).end();
  }).listen(0, "127.0.0.1");
  await once(hanging, "listening");
  onTestFinished(() => {
    hanging.closeAllConnections();
    hanging.close();
  });
  const url = `http://127.0.0.1:${(hanging.address() as AddressInfo).port}/`;
  const flood = { tenant: newId("tenant"), requestOptions: {} };
  await webhooks.signing.create(flood.tenant);
  const count = 200;
  for (let i = 0; i < count; i++) {
    await webhooks.publisher.publishJobEnd(flood, endedJob({ webhook: { url, deliveries: [] } }));
  }
  await receives(receiver.url);

  const waits = () => webhooks.deliveries.countWaiting(flood.tenant);
  await vi.waitUntil(async () => arrived + (await waits()) === count, 30_000);
  expect(arrived).toBeLessThanOrEqual(16);
  const delays = (await queue.getDelayed())
    .filter(({ data }) => data.tenant === flood.tenant)
    .map(({ delay }) => delay)
    .toSorted((a, b) => a - b);
  // One comes back each second, however many wait. Several may be put back at the same time.
  expect(delays).toHaveLength(count - arrived);
  expect(delays[0]).toBeGreaterThan(59_000);
  expect(delays.at(-1)).toBeGreaterThan(60_000 + (count / 2) * 1_000);

  hangs = false;
  for (const response of waiting) response.writeHead(204).end();
  // Each one that ends wakes the next: the last one does not wait for its minutes.
  await vi.waitUntil(() => arrived === count, 20_000);
  expect(await waits()).toBe(0);
});

test("silent name servers of one tenant's hosts do not delay the webhooks of another tenant", async () => {
  const flood = { tenant: newId("tenant"), requestOptions: {} };
  await webhooks.signing.create(flood.tenant);
  for (let i = 0; i < 40; i++) {
    const webhook = { url: `http://silent-${i}.test/`, deliveries: [] };
    await webhooks.publisher.publishJobEnd(flood, endedJob({ webhook }));
  }
  await vi.waitUntil(() => nameServer.questions.some((name) => name.startsWith("silent")), 10_000);
  await receives(receiver.url.replace("127.0.0.1", "answered.test"));
  expect(receiver.received).not.toEqual([]);
});
