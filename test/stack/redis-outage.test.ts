/** Redis has no room, or stops: new jobs are refused at once, accepted ones are not lost, and nothing stays behind. */
import { expect, onTestFinished, test, vi } from "vitest";
import { startReceiver } from "../../infra/webhook-receiver.ts";
import { jobKey, KEY_JOBS_PREFIX, PERMITS_KEY } from "../../shared/redis-keys.ts";
import {
  allEvents,
  countingFrom,
  DEADLINE_MS,
  finished,
  LONG,
  seqOf,
  SHORT,
  textOf,
  useStack,
} from "./stack.ts";

const stack = useStack({ SLOTS: "1" });

const WITHIN = { timeout: DEADLINE_MS };
const submission = { method: "POST", body: JSON.stringify(SHORT) };

test("a full Redis refuses new jobs and lets accepted ones end; what needs room comes when there is some", async () => {
  const { client, key, redis } = stack;
  const undisturbed = await finished(client, LONG);
  const receiver = await startReceiver({ secret: key.webhookSecret ?? "" });
  onTestFinished(() => receiver.close());
  const { id } = await client.submit({ ...LONG, webhook: { url: receiver.url } });
  const [next, last] = await Promise.all([client.submit(LONG), client.submit(LONG)]);
  // Asked here and not at the edge, which may tell it when the job is nearly over.
  await vi.waitUntil(() => redis.hget(jobKey(id), "tokens"), { ...WITHIN, interval: 2 });
  // Less than is in use, whatever that is.
  await redis.config("SET", "maxmemory", 1);
  onTestFinished(() => void redis.config("SET", "maxmemory", 0));

  await client.cancel(last.id);
  const refused = await client.request("/v1/jobs", submission);
  expect([refused.status, refused.headers.get("retry-after")]).toEqual([503, "2"]);
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
  await expect.poll(() => redis.scard(KEY_JOBS_PREFIX + key.id), WITHIN).toBe(0);
  await expect.poll(() => redis.hlen(PERMITS_KEY), WITHIN).toBe(0);
  expect(await finished(client, SHORT)).toMatchObject({ state: "succeeded" });
});

test("a Redis that stops answering is a 503 within the edge's own time, and no connection is left of it", async () => {
  const { client, redis, redisServer } = stack;
  const { id } = await client.submit(SHORT);
  await allEvents(client, id);
  const connections = async () => String(await redis.client("LIST")).split("\n").length;
  const before = await connections();
  redisServer.child.kill("SIGSTOP");
  onTestFinished(() => redisServer.child.kill("SIGCONT"));
  const began = Date.now();
  const replies = await Promise.all(
    Array.from({ length: 30 }, (_, i) =>
      i % 2 === 0
        ? client.request("/v1/jobs", submission)
        : client.request(`/v1/jobs/${id}/events`),
    ),
  );
  // REDIS_TIMEOUT_MS, and as much again for a busy machine.
  expect(Date.now() - began).toBeLessThan(10_000);
  for (const reply of replies) {
    expect([reply.status, reply.headers.get("retry-after")]).toEqual([503, "2"]);
  }
  redisServer.child.kill("SIGCONT");
  await expect.poll(connections, WITHIN).toBeLessThanOrEqual(before);
  expect(await finished(client, SHORT)).toMatchObject({ state: "succeeded" });
});
