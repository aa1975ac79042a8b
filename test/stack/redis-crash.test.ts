/** Redis crashes and restarts: accepted jobs are not lost, and streams and workers continue without help. */
import { expect, onTestFinished, test } from "vitest";
import * as v from "valibot";
import { JobClient } from "../../infra/cli/job-client.ts";
import { connectRedis } from "../../infra/stack/redis.ts";
import { startWebhookReceiver } from "../../infra/cli/webhook-receiver.ts";
import { KeyRegistry } from "../../shared/keys/registry.ts";
import { KeyPolicy } from "../../shared/api/keys.ts";
import { inboxKey, KEY_RATES_PREFIX } from "../../shared/redis/keys.ts";
import {
  allEvents,
  countingFrom,
  DEADLINE_MS,
  runToEnd,
  LONG_JOB,
  EventReader,
  seqOf,
  SHORT_JOB,
  textOf,
  useStack,
} from "./stack.ts";

const stack = useStack();

test.each([
  ["at once", 0],
  ["after two seconds of LOADING", 2_000],
])(
  "a crash of Redis during a job, with its data back %s: stream and worker continue, and the text is the same",
  async (_, loadMs) => {
    const { client, redisServer } = stack;
    const undisturbed = await runToEnd(client, LONG_JOB);
    const { id } = await client.submit(LONG_JOB);
    const reader = new EventReader(client, id);
    await reader.hasTokens(40);
    await redisServer.crash({ loadMs });

    const events = await reader.ended;
    expect(seqOf(events)).toEqual(countingFrom(1, events.length));
    expect(events.at(-1)).toMatchObject({ type: "succeeded" });
    expect(textOf(events)).toBe(undisturbed.output.text);
    expect(await allEvents(client, id)).toEqual(events);
  },
);

test("a job that was accepted before a crash runs after it", async () => {
  const { client, redisServer } = stack;
  const { id } = await client.submit(LONG_JOB);
  await redisServer.crash();
  expect((await allEvents(client, id)).at(-1)).toMatchObject({ type: "succeeded" });
});

test("jobs, logs, deliveries, endpoints, the inbox, keys and remaining limits are unchanged after a crash", async () => {
  const { key, redisServer } = stack;
  const redis = await connectRedis(redisServer.url);
  const receiver = await startWebhookReceiver({ secret: key.webhookSecret ?? "" });
  onTestFinished(() => {
    receiver.close();
    redis.disconnect();
  });
  const limits = {
    limits: { requests_per_minute: 1_000 },
    scopes: ["jobs:write", "jobs:read", "admin"],
  };
  const admin = await new KeyRegistry(redis).create(
    "admin",
    key.tenant,
    v.parse(KeyPolicy, limits),
  );
  const client = new JobClient(stack.edge.url, admin.key);
  const endpoint = {
    method: "POST",
    body: JSON.stringify({ url: receiver.url, events: ["job.failed"] }),
  };
  expect((await client.request("/v1/webhook_endpoints", endpoint)).status).toBe(201);
  const { id } = await runToEnd(client, { ...SHORT_JOB, webhook: { url: receiver.url } });
  await receiver.accepted(id, DEADLINE_MS);
  const stored = async () => {
    const own = await connectRedis(redisServer.url);
    const found = [
      await own.hgetall(KEY_RATES_PREFIX + admin.id),
      await own.xlen(inboxKey(key.tenant)),
    ];
    own.disconnect();
    return found;
  };
  const all = async () => {
    const paths = [`jobs/${id}`, "webhook_endpoints", "webhook_deliveries", "keys", "webhook_keys"];
    const texts = paths.map(async (path) => (await client.request(`/v1/${path}`)).text());
    return Promise.all([...texts, allEvents(client, id), stored()]);
  };
  const isDelivered = async () => JSON.stringify(await all()).includes('"status\\":204');
  await expect.poll(isDelivered, { timeout: DEADLINE_MS }).toBe(true);
  const before = await all();
  await redisServer.crash();
  expect(await all()).toEqual(before);
});
