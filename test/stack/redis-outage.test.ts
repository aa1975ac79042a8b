/** Redis is full, hangs or refuses commands: new jobs are rejected, accepted ones are not lost, and nothing is left behind. */
import type { Redis } from "ioredis";
import { expect, onTestFinished, test, vi } from "vitest";
import { startWebhookReceiver } from "../../infra/cli/webhook-receiver.ts";
import { jobKey, KEY_JOBS_PREFIX, LEASE_GROUPS_KEY } from "../../shared/redis/keys.ts";
import {
  allEvents,
  countingFrom,
  DEADLINE_MS,
  edgeIsReady,
  runToEnd,
  LONG_JOB,
  seqOf,
  SHORT_JOB,
  textOf,
  useStack,
} from "./stack.ts";

const stack = useStack({ SLOTS: "1" });

const WAIT_OPTIONS = { timeout: DEADLINE_MS };
const submission = { method: "POST", body: JSON.stringify(SHORT_JOB) };

test("a full Redis rejects new jobs and lets accepted ones end; webhooks and queued jobs follow when it has room", async () => {
  const { client, key, redis } = stack;
  const undisturbed = await runToEnd(client, LONG_JOB);
  const receiver = await startWebhookReceiver({ secret: key.webhookSecret ?? "" });
  onTestFinished(() => receiver.close());
  const { id } = await client.submit({ ...LONG_JOB, webhook: { url: receiver.url } });
  const [next, last] = await Promise.all([client.submit(LONG_JOB), client.submit(LONG_JOB)]);
  // Read from Redis, not from the edge: its answer may come when the job has nearly ended.
  await vi.waitUntil(() => redis.hget(jobKey(id), "tokens"), { ...WAIT_OPTIONS, interval: 2 });
  // Less than is in use, so no write that needs memory succeeds.
  await redis.config("SET", "maxmemory", 1);
  onTestFinished(() => void redis.config("SET", "maxmemory", 0));

  await client.cancel(last.id);
  const rejected = await client.request("/v1/jobs", submission);
  expect([rejected.status, rejected.headers.get("retry-after")]).toEqual([503, "2"]);
  const events = await allEvents(client, id);
  expect(seqOf(events)).toEqual(countingFrom(1, events.length));
  expect(textOf(events)).toBe(undisturbed.output.text);
  expect(await client.read(id)).toMatchObject({ state: "succeeded" });
  expect(receiver.received).toEqual([]);

  await redis.config("SET", "maxmemory", 0);
  await receiver.accepted(id, DEADLINE_MS);
  const later = await allEvents(client, next.id);
  expect(textOf(later)).toBe(undisturbed.output.text);
  expect((await allEvents(client, last.id)).at(-1)?.type).toBe("cancelled");
  await expect.poll(() => redis.scard(KEY_JOBS_PREFIX + key.id), WAIT_OPTIONS).toBe(0);
  await expect.poll(() => redis.scard(LEASE_GROUPS_KEY), WAIT_OPTIONS).toBe(0);
  expect(await runToEnd(client, SHORT_JOB)).toMatchObject({ state: "succeeded" });
});

test("while Redis hangs, every request gets 503 from the edge's own timeout, and no connection is left open", async () => {
  const { client, redis, redisServer } = stack;
  const { id } = await client.submit(SHORT_JOB);
  await allEvents(client, id);
  const connections = async () => String(await redis.client("LIST")).split("\n").length;
  const before = await connections();
  redisServer.child.kill("SIGSTOP");
  onTestFinished(() => redisServer.child.kill("SIGCONT"));
  const replies = await Promise.all(
    Array.from({ length: 30 }, (_, i) =>
      i % 2 === 0
        ? client.request("/v1/jobs", submission)
        : client.request(`/v1/jobs/${id}/events`),
    ),
  );
  // Redis is still stopped here: the replies came from the edge's own timeout (REDIS_TIMEOUT_MS).
  for (const reply of replies) {
    expect([reply.status, reply.headers.get("retry-after")]).toEqual([503, "2"]);
  }
  redisServer.child.kill("SIGCONT");
  await expect.poll(connections, WAIT_OPTIONS).toBeLessThanOrEqual(before);
  await edgeIsReady(stack.edge);
  expect(await runToEnd(client, SHORT_JOB)).toMatchObject({ state: "succeeded" });
});

/** A state in which Redis refuses commands: how to enter it, how to leave it, and whether it also refuses reads. */
interface Refusal {
  readonly name: string;
  readonly begin: (redis: Redis) => Promise<unknown>;
  readonly end: (redis: Redis) => Promise<unknown>;
  readonly refusesReads: boolean;
}

/** Closes the connections of edge and workers, so that they must connect again. */
const killOthers = (redis: Redis) =>
  Promise.all(["normal", "pubsub"].map((type) => redis.call("CLIENT", "KILL", "TYPE", type)));

const REFUSALS: readonly Refusal[] = [
  {
    name: "has no connection left",
    begin: (redis) => redis.config("SET", "maxclients", 1).then(() => killOthers(redis)),
    end: (redis) => redis.config("SET", "maxclients", 1_000),
    refusesReads: true,
  },
  {
    name: "wants a password",
    begin: (redis) => redis.config("SET", "requirepass", "x").then(() => killOthers(redis)),
    end: (redis) => redis.config("SET", "requirepass", ""),
    refusesReads: true,
  },
  {
    name: "is a replica without its master",
    begin: (redis) =>
      redis
        .config("SET", "replica-serve-stale-data", "no")
        .then(() => redis.replicaof("127.0.0.1", 1)),
    end: (redis) => redis.replicaof("NO", "ONE"),
    refusesReads: true,
  },
  {
    name: "is a replica",
    begin: (redis) =>
      redis
        .config("SET", "replica-serve-stale-data", "yes")
        .then(() => redis.replicaof("127.0.0.1", 1)),
    end: (redis) => redis.replicaof("NO", "ONE"),
    refusesReads: false,
  },
  {
    name: "has too few replicas",
    begin: (redis) => redis.config("SET", "min-replicas-to-write", 1),
    end: (redis) => redis.config("SET", "min-replicas-to-write", 0),
    refusesReads: false,
  },
];

test.for(REFUSALS)(
  "while Redis $name, refused requests get 503 with Retry-After; then everything goes on",
  async ({ begin, end, refusesReads }) => {
    const { client, redis } = stack;
    const { id } = await client.submit(SHORT_JOB);
    await allEvents(client, id);
    await begin(redis);
    onTestFinished(() => void end(redis));
    const requests = [client.request("/v1/jobs", submission), client.request("/readyz")];
    if (refusesReads) {
      const paths = [`/v1/jobs/${id}`, `/v1/jobs/${id}/events`, "/v1/models"];
      requests.push(...paths.map((path) => client.request(path)));
    }
    for (const reply of await Promise.all(requests)) {
      expect([reply.status, reply.headers.get("retry-after")]).toEqual([503, "2"]);
      // Where Redis refuses commands, the edge does not wait in vain.
      const text = await reply.text();
      expect(refusesReads || text.includes("The queue refuses requests")).toBe(true);
    }
    await end(redis);
    await edgeIsReady(stack.edge);
    expect(await runToEnd(client, SHORT_JOB)).toMatchObject({ state: "succeeded" });
  },
);
